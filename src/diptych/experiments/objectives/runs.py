"""The runs of the objectives benchmark: one process each, so that each has its own peak of
memory."""

import json
import resource
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor

from diptych.checkpoints.steps import checkpoints
from diptych.config import DataConfig, Run
from diptych.data import open_source
from diptych.durable import write_file
from diptych.encoder import Encoder, load
from diptych.errors import ConfigError
from diptych.evaluation import evaluate, linear_probe
from diptych.experiments.digits.render import delete_earlier
from diptych.experiments.objectives.config import ObjectivesConfig
from diptych.experiments.objectives.setting import Setting
from diptych.training import fit, load_run, read_metrics

P = ParamSpec("P")
T = TypeVar("T")

TRIAL = 8
"""Steps by which the time of a step is estimated."""
PROBED = 5000
"""Training pictures that the linear probe sees at most."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One run's figures; shares lie in [0, 1]."""

    objective: str
    seed: int
    zero_shot: float
    probe: float
    retrieval: float | None
    """The mean of the six recalls."""
    seconds: float
    """Of a step, the median."""
    memory: float
    """Peak of the process (on a GPU: of the device), in MB."""


def seconds_of_a_step(shared: Setting, config: ObjectivesConfig, console: Console) -> float:
    """Of all objectives together, by a short trial of each."""
    console.print(f"The time of a step: {TRIAL} steps of each objective")
    folder = Path(config.out) / "trials"
    trials = [shared.with_objective(name, 0, folder, TRIAL) for name in config.objectives]
    for trial in trials:
        # Steps that an interrupted trial took already wouldn't be taken, nor timed, again.
        delete_earlier(Path(trial.out))
    return sum(_apart(_trial, trial) for trial in trials)


def compete(shared: Setting, config: ObjectivesConfig, steps: int, console: Console) -> list[Score]:
    """Train and measure everyone that isn't done yet.

    Raises ConfigError where a run with another number of steps stands: it isn't comparable.
    """
    scores, folder = list[Score](), Path(config.out) / "runs"
    for seed in range(config.seeds):
        for name in config.objectives:
            run = shared.with_objective(name, seed, folder, steps)
            _refuse_other_steps(run)
            done = Path(run.out) / "score.json"
            if not done.exists():
                console.print(
                    f"[bold]{name}[/], seed {seed}: {steps} steps of {run.batch_size} pairs"
                )
                score = _apart(_train_and_measure, run, shared, name, not console.quiet)
                text = json.dumps(asdict(score))
                write_file(done, lambda part, text=text: part.write_text(text))
            scores.append(Score(**json.loads(done.read_text())))
    return scores


def _refuse_other_steps(run: Run) -> None:
    folder = Path(run.out)
    if not (folder / "run.json").exists():
        return
    earlier = load_run(folder).steps
    if earlier != run.steps:
        raise ConfigError(
            f"{folder} holds a run of {earlier} steps, and this one has {run.steps}; "
            "choose another --out"
        )


def _apart(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """The result of `work` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **named).result()


def _trial(run: Run) -> float:
    """Seconds of a step."""
    # Training alone, a row each step: `_seconds` is a median, as the first steps are slower.
    quiet = replace(
        run, evaluation=replace(run.evaluation, path=""), track=replace(run.track, every_steps=1)
    )
    fit(quiet, progress=False)
    return _seconds(quiet)


def _train_and_measure(run: Run, shared: Setting, name: str, progress: bool) -> Score:
    started = bool(checkpoints(Path(run.out)))
    fit(run, resume=started, progress=progress)
    memory = _peak()  # of training: the evaluation below may need more
    encoder = load(run.out)
    found = shared.captioned and evaluate(encoder, "retrieval", shared.captioned)
    return Score(
        objective=name,
        seed=run.seed,
        zero_shot=evaluate(encoder, "zero-shot", shared.test).metrics["top1"],
        probe=linear_probe(*_labelled(encoder, shared.probe), *_labelled(encoder, shared.test)),
        retrieval=found.metrics["mean_recall"] if found else None,
        seconds=_seconds(run),
        memory=memory,
    )


def _labelled(
    encoder: Encoder, data: DataConfig
) -> tuple[Float[Tensor, "n width"], Int[Tensor, " n"]]:
    """Vectors and labels of at most about `PROBED` pictures, evenly taken."""
    source = open_source(data)
    # Every k-th: the samples of a folder or shard may be sorted by class.
    samples = [source[i] for i in range(0, len(source), max(1, len(source) // PROBED))]
    vectors = encoder.embed_images([sample.image for sample in samples], batch_size=128)
    return vectors, torch.tensor([sample.label for sample in samples])


def _seconds(run: Run) -> float:
    rows = read_metrics(Path(run.out) / "metrics.jsonl")
    speeds = [row["samples_per_second"] for row in rows if "samples_per_second" in row]
    return run.batch_size / statistics.median(speeds)


def _peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
