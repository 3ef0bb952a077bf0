"""Tasks x models x ways of resizing: a result file each. What is finished is kept; what fails stops
nothing else."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diptych.distributed import FAILURES, on_main, together
from diptych.encoder import Encoder, View
from diptych.errors import ConfigError, DataError
from diptych.evaluation.measure import Engine, Task, views_of
from diptych.evaluation.result import Result


@dataclass(frozen=True, kw_only=True)
class Job:
    """One cell of the table."""

    task: str
    model: str
    resize: str


@dataclass(kw_only=True)
class Summary:
    """What became of a suite."""

    results: dict[Job, Path] = field(default_factory=dict)
    kept: set[Job] = field(default_factory=set)
    """Of the results, those that were there already."""
    failures: dict[Job, str] = field(default_factory=dict)
    """Why."""

    def __iadd__(self, other: "Summary") -> "Summary":
        self.results |= other.results
        self.kept |= other.kept
        self.failures |= other.failures
        return self


def run_suite(
    encoders: Sequence[Encoder],
    tasks: Sequence[str],
    open_task: Callable[[str], Task],
    out: str | Path,
    *,
    resizes: Sequence[str] = (),
    engine: Engine | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Summary:
    """Measure every model on every task and write each result below `out` as soon as it is there.

    `open_task` finds a task's data; a task that it can't open fails for all models. A result that
    is there already, with the same key (model, preprocessing, files, prompts, procedure), is kept.
    `resizes` overrule those of the tasks. `tell` gets a line about each result.

    >>> import tempfile
    >>> from diptych import Encoder, models, zoo
    >>> from diptych.evaluation.measure import Task
    >>> from diptych.datasets import open_own
    >>> encoder = Encoder(models.build(zoo.get("tiny")))
    >>> open_task = lambda name: Task(name=name, subjects={"test": open_own(name)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     summary = run_suite([encoder], ["synthetic:16", "nothing.tar"], open_task, folder)
    ...     [job.task for job in summary.results], list(summary.failures.values())
    (['synthetic:16'], ["nothing.tar doesn't exist (data.path)"])
    """
    engine, summary = engine or Engine(), Summary()
    if len({encoder.name for encoder in encoders}) < len(encoders):
        raise ConfigError(
            f"a model stands twice in {', '.join(encoder.name for encoder in encoders)}"
        )
    for task in tasks:
        try:
            opened = together(engine.peers, lambda task=task: open_task(task))
            jobs = _jobs(encoders, opened, resizes or opened.subjects["test"].resizes)
            places = {
                job: Path(out) / _file_name(job, engine.key(opened, view))
                for job, view in jobs.items()
            }
            done = on_main(
                engine.peers,
                lambda places=places: [job for job, path in places.items() if _is_done(path)],
            )
        except FAILURES as error:
            cells = [
                Job(task=task, model=encoder.name, resize=", ".join(resizes))
                for encoder in encoders
            ]
            summary.failures |= dict.fromkeys(cells, _reason(error))
            tell(f"{task}: {_reason(error)}")
            continue
        summary.results |= {job: places[job] for job in done}
        summary.kept |= set(done)
        summary += _measure(
            engine,
            opened,
            {job: view for job, view in jobs.items() if job not in done},
            places,
            tell,
        )
    return summary


def _jobs(encoders: Sequence[Encoder], task: Task, resizes: Sequence[str]) -> dict[Job, View]:
    return {
        Job(task=task.name, model=encoder.name, resize=name): view
        for encoder in encoders
        for name, view in views_of(encoder, resizes).items()
    }


def _measure(
    engine: Engine,
    task: Task,
    jobs: dict[Job, View],
    places: dict[Job, Path],
    tell: Callable[[str], None],
) -> Summary:
    """All jobs with one decode of each picture; if that fails, one by one, so that the others get
    through."""
    summary = Summary()
    if not jobs:
        return summary
    try:
        results = engine.measure(task, list(jobs.values()))
        on_main(
            engine.peers, lambda: [result.save(places[job]) for job, result in zip(jobs, results)]
        )
    except FAILURES as error:
        if len(jobs) > 1:
            for job, view in jobs.items():
                summary += _measure(engine, task, {job: view}, places, tell)
            return summary
        [job] = jobs
        tell(f"{job.model}, {job.task}: {_reason(error)}")
        return Summary(failures={job: _reason(error)})
    for job, result in zip(jobs, results):
        summary.results[job] = places[job]
        metric = result.protocol["metric"]
        tell(
            f"{Path(job.model).name}, {job.task}, {job.resize}: {metric} "
            f"{result.metrics[metric]:.2%}"
        )
    return summary


def _is_done(path: Path) -> bool:
    try:
        return bool(Result.from_json(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, DataError):
        return False


def _file_name(job: Job, key: str) -> str:
    """Readable, and another one for whatever gives other figures."""
    model = Path(job.model.rstrip("/")).name
    words = (model, job.task, job.resize)
    return ".".join(
        [*(re.sub(r"[^\w+=-]+", "-", word).strip("-") for word in words), key[:8], "json"]
    )


def _reason(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
