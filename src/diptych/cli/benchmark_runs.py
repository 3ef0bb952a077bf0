"""The runs of `diptych benchmark objectives`: one process each, so that each has its own peak of
memory."""

import json
import resource
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor

from diptych import __version__, pretrained, recipes
from diptych.cli.benchmark import Benchmark
from diptych.config import (
    ClipConfig,
    ClipObjectiveConfig,
    DataConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    FilipObjectiveConfig,
    ModelConfig,
    ObjectiveConfig,
    Run,
    SaveConfig,
    SlipObjectiveConfig,
    TokenizerConfig,
)
from diptych.config.serialize import to_dict
from diptych.data import open_source
from diptych.encoder import Encoder, load
from diptych.errors import UnknownNameError
from diptych.evaluation import evaluate, linear_probe
from diptych.families.clip import TextConfig
from diptych.families.tiny.digits import PROMPTS
from diptych.training import fit, read_metrics

OBJECTIVES: dict[str, ObjectiveConfig] = {
    "clip": ClipObjectiveConfig(),
    "slip": SlipObjectiveConfig(),
    "declip": DeclipObjectiveConfig(),
    "filip": FilipObjectiveConfig(),
    "defilip": DefilipObjectiveConfig(),
}
TRIAL = 8
"""Steps by which the time of a step is foretold."""
PROBED = 5000
"""Training pictures that the linear probe sees at most."""
WORDS, TOKENS = 49409, 64
"""DeCLIP's vocabulary, and the width in which patches and words meet: everyone's towers have
them."""
POINTS = 10
"""Evaluations on the way: the points of the curves."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """What everyone shares."""

    run: Run
    """Of everyone, but for the objective, the seed and the folder."""
    test: DataConfig
    """Labelled pictures that are asked for."""
    probe: DataConfig
    """Labelled pictures that the linear classifier learns from."""
    captioned: DataConfig | None
    """Pictures with captions of their own, for retrieval; None: there are none."""


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


def prepare(options: Benchmark, console: Console) -> Field:
    """The data, the towers and the run that everyone shares. Raises UnknownNameError for an unknown
    objective."""
    for name in options.objectives:
        if name not in OBJECTIVES:
            raise UnknownNameError("objective", name, OBJECTIVES)
    return _digits(Path(options.out), console) if options.data == "digits" else _pictures(options)


def affordable_steps(field: Field, options: Benchmark, console: Console) -> int:
    """As many steps for each run as fit into the budget together, by the time of a few."""
    console.print(f"How long is a step? {TRIAL} of each objective tell.")
    trials = [
        _named(field.run, name, 0, Path(options.out) / "trials", TRIAL)
        for name in options.objectives
    ]
    seconds = sum(_apart(_trial, trial) for trial in trials)
    return int(0.85 * 60 * options.budget / (options.seeds * seconds))  # the rest is for measuring


def compete(field: Field, options: Benchmark, steps: int, console: Console) -> list[Score]:
    """Train and measure everyone that isn't done yet."""
    scores, out = [], Path(options.out)
    for seed in range(options.seeds):
        for name in options.objectives:
            run = _named(field.run, name, seed, out / "runs", steps)
            done = Path(run.out) / "score.json"
            if not done.exists():
                console.print(
                    f"[bold]{name}[/], seed {seed}: {steps} steps of {run.batch_size} pairs"
                )
                score = _apart(_train_and_measure, run, field, name)
                done.write_text(json.dumps(asdict(score)))
            scores.append(Score(**json.loads(done.read_text())))
    return scores


def save(path: Path, options: Benchmark, steps: int, scores: Sequence[Score]) -> Path:
    """All figures and what they depend on, as JSON."""
    content = {
        "diptych": __version__,
        "torch": torch.__version__,
        "options": to_dict(options),
        "steps": steps,
        "scores": [asdict(score) for score in scores],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _digits(out: Path, console: Console) -> Field:
    from diptych.cli.demo import render

    render(out / "data", 0, console)
    run = recipes.tiny_digits(str(out))
    labelled = replace(run.data, class_names=run.evaluation.class_names, templates=PROMPTS)
    return Field(
        run=replace(run, model=_towers(pretrained.get("tiny"))),
        test=replace(labelled, path=run.evaluation.path),
        probe=replace(labelled, path=f"{out}/data/test/seen-000000.tar"),
        captioned=replace(run.data, path=run.evaluation.path),
    )


def _pictures(options: Benchmark) -> Field:
    run = recipes.tiny_cifar10()
    data = replace(
        run.data, path=options.data, class_names=options.class_names, templates=options.templates
    )
    watched = replace(
        run.evaluation,
        path=options.test,
        class_names=options.class_names,
        templates=options.templates,
        limit=1000,
    )
    return Field(
        run=replace(run, model=_towers(pretrained.get("tiny-32")), data=data, evaluation=watched),
        test=replace(data, path=options.test),
        probe=data,
        captioned=None,
    )


def _towers(config: ClipConfig) -> ModelConfig:
    """With words for hidden ones and a space for tokens, which some objectives need and all get."""
    assert isinstance(config.text, TextConfig)
    text, tokenizer = replace(config.text, vocab_size=WORDS), TokenizerConfig(kind="declip")
    return ModelConfig(custom=replace(config, text=text, tokenizer=tokenizer, token_dim=TOKENS))


def _named(run: Run, name: str, seed: int, folder: Path, steps: int) -> Run:
    return replace(
        run,
        objective=OBJECTIVES[name],
        seed=seed,
        steps=steps,
        out=str(folder / f"{name}-{seed}"),
        save=SaveConfig(every_steps=0, every_minutes=5.0, keep=1),
        evaluation=replace(run.evaluation, every_steps=max(1, steps // POINTS)),
        recipe=f"benchmark {name}",
    )


def _apart(work, *arguments):
    """The result of `work` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _trial(run: Run) -> float:
    """Seconds of a step."""
    quiet = replace(
        run, evaluation=replace(run.evaluation, path=""), track=replace(run.track, every_steps=1)
    )
    fit(quiet, progress=False)
    return _seconds(quiet)


def _train_and_measure(run: Run, field: Field, name: str) -> Score:
    fit(run, resume=any(Path(run.out).glob("checkpoints/step-*")))
    memory = _peak()
    encoder = load(run.out)
    retrieval = (
        field.captioned and evaluate(encoder, "retrieval", field.captioned).metrics["mean_recall"]
    )
    return Score(
        objective=name,
        seed=run.seed,
        zero_shot=evaluate(encoder, "zero-shot", field.test).metrics["top1"],
        probe=linear_probe(*_labelled(encoder, field.probe), *_labelled(encoder, field.test)),
        retrieval=retrieval,
        seconds=_seconds(run),
        memory=memory,
    )


def _labelled(
    encoder: Encoder, data: DataConfig
) -> tuple[Float[Tensor, "n width"], Int[Tensor, " n"]]:
    source = open_source(data)
    samples = [source[i] for i in range(0, len(source), max(1, len(source) // PROBED))]
    return encoder.embed_images([sample.image for sample in samples], batch_size=128), torch.tensor(
        [sample.label for sample in samples]
    )


def _seconds(run: Run) -> float:
    rows = [
        row for row in read_metrics(Path(run.out) / "metrics.jsonl") if "samples_per_second" in row
    ]
    return run.batch_size / statistics.median(row["samples_per_second"] for row in rows)


def _peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
