"""What a step of a run costs, by some real ones; and steps of equal compute."""

import hashlib
import json
import shutil
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from diptych.bounded import parse_json, read_text
from diptych.checkpoints.steps import newest, step_of
from diptych.config import Run, SaveConfig
from diptych.config.serialize import read_as, to_json
from diptych.data import open_source
from diptych.durable import write_file
from diptych.errors import ConfigError, DataError
from diptych.experiments.comparison.apart import each_apart
from diptych.experiments.comparison.config import CompareConfig
from diptych.experiments.comparison.fairness import (
    folder_of,
    of_seed,
    slug,
    started_from,
    step_folder,
)
from diptych.training import fit, load_run, read_metrics
from diptych.training.flops import Flops

TRIAL = 6
"""Steps by which a step's cost is told."""
FEWEST = 20
"""Steps below which nothing is learned."""


class Step(NamedTuple):
    """What a step costs, and what was spent before the first."""

    flops: float
    """Floating-point operations, forward and backward, of all that the objective computes."""
    seconds: float
    before: float = 0.0
    """Operations of the runs whose weights this one starts from."""


def costs(variants: Mapping[str, Run], config: CompareConfig, console: Console) -> dict[str, Step]:
    """Of each variant, by `TRIAL` steps of it. The numbers are kept: measured anew after an
    interruption, times would be others.

    Raises ConfigError where the weights of some seeds are others than the first's in kind, and
    under `--equal flops` for weights of which nobody knows what they cost.
    """
    for name, run in variants.items():
        _check_seeds(run, name, config)
    trials, found = {name: _trial_of(run) for name, run in variants.items()}, dict[str, Step]()
    for name, run in variants.items():
        trials |= {weights: _trial_of(other) for weights, other in _earlier(run, name, config)}
    kept, missing = dict[str, Path](), dict[str, tuple[Run]]()
    for name, run in trials.items():
        # By what it does, too: another command in this folder, which is refused, must not cost this
        # one its numbers.
        digest = hashlib.sha256(to_json(run).encode()).hexdigest()[:8]
        kept[name] = Path(config.out) / "trials" / f"{slug(name)}-{digest}.json"
        if kept[name].exists():
            found[name] = _kept(kept[name])
        else:
            missing[name] = (replace(run, out=str(kept[name].with_suffix(""))),)
    if missing:
        console.print(f"The cost of a step: {TRIAL} steps of each variant")
    for name, step in each_apart(try_out, missing, config.jobs):
        found[name] = step
        text = json.dumps({"flops": step.flops, "seconds": step.seconds})
        write_file(kept[name], lambda part, text=text: part.write_text(text))
    costs = dict[str, Step]()
    for name, run in variants.items():
        before = sum(found[w].flops * _taken(w) for w, _ in _earlier(run, name, config))
        costs[name] = found[name]._replace(before=before)
    return costs


def _kept(path: Path) -> Step:
    try:
        numbers = read_as(dict[str, float], parse_json(read_text(path)), str(path))
        return Step(flops=numbers["flops"], seconds=numbers["seconds"])
    except (ValueError, KeyError) as error:
        raise DataError(f"{path} isn't as it was written ({error}): delete it") from error


def _check_seeds(run: Run, variant: str, config: CompareConfig) -> None:
    """Before anything is trained: weights of a later seed are asked for when the earlier are
    done."""
    for seed in range(1, config.seeds):
        for first, weights in zip(started_from(run), started_from(run, seed)):
            if weights == first or folder_of(first) is None:
                continue
            if folder_of(weights) is None:
                raise ConfigError(
                    f"seed {seed} of {variant!r} starts from {weights}, and no run stands there: "
                    f"train it, or take fewer --seeds than {seed + 1}"
                )
            if (own := _taken(weights)) != (theirs := _taken(first)):
                raise ConfigError(
                    f"{variant!r} starts from {first}, which took {theirs} steps, and from "
                    f"{weights}, which took {own}: train both alike"
                )


def _earlier(run: Run, variant: str, config: CompareConfig) -> list[tuple[str, Run]]:
    """The runs whose weights a run starts from, and theirs, by the weights' names."""
    found = list[tuple[str, Run]]()
    for weights in started_from(run):
        folder = folder_of(weights)
        if folder is not None:
            other = replace(load_run(folder), out=str(folder))
            found += [(weights, other), *_earlier(other, variant, config)]
        elif config.equal == "flops" and not {"model.init", "model.image.init"} & {*config.differ}:
            raise ConfigError(
                f"{variant!r} starts from {weights}, of which nobody knows what it cost: "
                "--equal samples compares without it"
            )
    return found


def _taken(weights: str) -> int:
    """Steps that were taken for these weights: until the checkpoint that they name, or the run's
    newest."""
    folder, step = folder_of(weights), step_folder(Path(weights).expanduser())
    assert folder is not None
    return step_of(step) if step else newest(folder, step_of)


def _trial_of(run: Run) -> Run:
    """Training alone, of all the data, a row each step."""
    return replace(
        run,
        steps=TRIAL,
        epochs=0.0,
        seed=0,
        compile=False,  # the formulas are of operators that a compiled graph no longer has
        data=replace(run.data, share=1.0, share_seed=0),
        evaluation=replace(run.evaluation, path="", pairs=""),
        save=SaveConfig(every_steps=0, keep=1),
        track=replace(run.track, every_steps=1, tensorboard=False, wandb=""),
        model=of_seed(run.model, 0),
        out="",
    )


def try_out(run: Run) -> Step:
    """Take a run's steps, and count. What an interrupted trial left is deleted."""
    shutil.rmtree(run.out, ignore_errors=True)
    with Flops() as counted:
        fit(run, progress=False)
    return Step(counted.total / run.steps, seconds_of_steps(run))


def seconds_of_steps(run: Run) -> float:
    """The median: the first steps are slower."""
    rows = read_metrics(Path(run.out) / "metrics.jsonl")
    speeds = [row["samples_per_second"] for row in rows if "samples_per_second" in row]
    return run.batch_size / statistics.median(speeds)


def last_loss(run: Run) -> float:
    """Of training: the mean of the last tenth of it."""
    rows = read_metrics(Path(run.out) / "metrics.jsonl")
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    late = [loss for step, loss in losses if step > 0.9 * run.steps]
    return statistics.fmean(late or [losses[-1][1]])


def with_steps(variants: Mapping[str, Run]) -> dict[str, Run]:
    """With epochs said in steps: as many for everyone as the first variant's data takes, so that
    all see as many samples."""
    found, steps = dict[str, Run](), 0
    for name, run in variants.items():
        if not run.steps:
            steps = steps or _steps_of(run)
            run = replace(run, steps=steps, epochs=0.0)
        found[name] = run
    return found


def _steps_of(run: Run) -> int:
    size = len(open_source(replace(run.data, share=1.0), split="train"))
    return max(1, -(-round(run.epochs * size) // run.batch_size))


def with_equal_flops(variants: Mapping[str, Run], costs: Mapping[str, Step]) -> dict[str, Run]:
    """With as many steps for each as the first variant's operations pay for.

        steps = (operations of the first - those before it began) / operations of a step

    Raises ConfigError for a variant that is left with too few to learn from.
    """
    first = next(iter(variants))
    budget = costs[first].before + variants[first].steps * costs[first].flops
    found = dict[str, Run]()
    for name, run in variants.items():
        steps = int((budget - costs[name].before) / costs[name].flops)
        if steps < FEWEST:
            raise ConfigError(
                f"what {first!r} computes pays for {max(0, steps)} steps of {name!r}, fewer than "
                f"{FEWEST}: give {first!r} more --steps"
            )
        found[name] = replace(run, steps=steps)
    return found
