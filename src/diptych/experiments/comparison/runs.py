"""The runs of a comparison, each in a process of its own; what is done is kept."""

import json
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from diptych.bounded import parse_json, read_text
from diptych.checkpoints.steps import checkpoints
from diptych.config import Run, SaveConfig
from diptych.config.serialize import difference, read_as
from diptych.data import open_source
from diptych.durable import write_file
from diptych.encoder import load
from diptych.errors import ConfigError, DataError
from diptych.experiments.comparison.apart import each_apart
from diptych.experiments.comparison.compute import last_loss, seconds_of_steps
from diptych.experiments.comparison.config import CompareConfig
from diptych.experiments.comparison.fairness import of_seed, slug
from diptych.experiments.comparison.measures import Measures, measure
from diptych.training import fit, load_run

_KEPT = "figures.json"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One run's figures."""

    variant: str
    seed: int
    figures: dict[str, float]
    """Shares in [0, 1] by name."""
    steps: int
    samples: int
    """Pairs seen, repeats counted."""
    epochs: float
    """How often each pair of the training data was seen."""
    loss: float
    """Of training, the mean of the last tenth of it."""
    seconds: float
    """Of a step, the median."""
    memory: float
    """Peak of the process (on a GPU: of the device), in MB."""


def run_folder(out: Path, variant: str, seed: int) -> Path:
    """Where the run of one variant and seed stands: `runs/clip-0`."""
    return out / "runs" / f"{slug(variant)}-{seed}"


def seeded(run: Run, variant: str, seed: int, config: CompareConfig) -> Run:
    """The run of one seed, in a folder of its own: `{seed}` in the names of weights is the seed,
    and a share of the data is drawn by it."""
    every_steps = max(1, run.steps // config.points)
    return replace(
        run,
        model=of_seed(run.model, seed),
        data=replace(run.data, share_seed=seed) if run.data.share < 1 else run.data,
        evaluation=replace(run.evaluation, every_steps=every_steps, every_epochs=0.0),
        save=SaveConfig(every_steps=0, every_minutes=5.0, keep=1),
        seed=seed,
        out=str(run_folder(Path(config.out), variant, seed)),
        recipe=f"benchmark {variant}",
    )


def compete(
    variants: Mapping[str, Run],
    measures: Measures,
    config: CompareConfig,
    console: Console,
) -> list[Score]:
    """Train and measure every run that isn't done yet.

    Raises ConfigError where a run that differs stands in a folder: it isn't comparable.
    """
    places, tasks = dict[str, Path](), dict[str, tuple[str, Run, Measures, bool]]()
    shown = not console.quiet and config.jobs == 1
    for seed in range(config.seeds):
        for variant, plan in variants.items():
            run, name = seeded(plan, variant, seed, config), f"{variant}, seed {seed}"
            _refuse_another(run)
            places[name] = Path(run.out) / _KEPT
            if not places[name].exists():
                tasks[name] = (variant, run, measures, shown)
    if tasks:
        console.print(f"{len(tasks)} of {len(places)} runs are to be trained")
    for name, score in each_apart(train_and_measure, tasks, config.jobs):
        text = json.dumps(asdict(score))
        write_file(places[name], lambda part, text=text: part.write_text(text))
        console.print(f"{name}: {_said(score)}", markup=False)
    return [_kept(path) for path in places.values()]


def _kept(path: Path) -> Score:
    try:
        return read_as(Score, parse_json(read_text(path)), str(path))
    except ValueError as error:  # as a ConfigError is
        raise DataError(f"{path} isn't as it was written ({error}): delete it") from error


def _said(score: Score) -> str:
    return ", ".join(f"{figure} {100 * value:.1f} %" for figure, value in score.figures.items())


def _refuse_another(run: Run) -> None:
    folder = Path(run.out)
    if not (folder / "run.json").exists():
        return
    for path, (old, new) in difference(load_run(folder), run).items():
        if not path.startswith(("save.", "out", "recipe")):
            raise ConfigError(
                f"{folder} holds a run whose {path} is {old!r}, and this one has {new!r}; choose "
                "another --out"
            )


def train_and_measure(variant: str, run: Run, asked: Measures, progress: bool) -> Score:
    """One run, from where it was interrupted, and its figures."""
    out = Path(run.out)
    fit(run, resume=bool(checkpoints(out)), progress=progress)
    memory = _peak()  # of training: the evaluation below may need more
    samples = run.steps * run.batch_size
    return Score(
        variant=variant,
        seed=run.seed,
        figures=measure(load(run.out), run, asked),
        steps=run.steps,
        samples=samples,
        epochs=samples / len(open_source(run.data, split="train")),
        loss=last_loss(run),
        seconds=seconds_of_steps(run),
        memory=memory,
    )


def _peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    # Linux counts in KiB, macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
