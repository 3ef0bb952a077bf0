"""The many-tasks form of `diptych evaluate`: load, measure, show."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from diptych.cli.evaluate import Evaluate
from diptych.cli.show import show
from diptych.distributed import FAILURES, Peers, together
from diptych.encoder import Encoder
from diptych.evaluation import Result
from diptych.evaluation.measure import Engine
from diptych.evaluation.suite import Job, Summary, run_suite
from diptych.evaluation.tasks import Requests


def measure(options: Evaluate, tasks: Sequence[str], requests: Requests, engine: Engine) -> Summary:
    """Every model on every task. A model that can't be loaded fails on all of them, and stops no
    other."""
    summary = Summary()
    resizes = (
        ("crop", "squash") if options.resize == "both" else tuple(filter(None, (options.resize,)))
    )

    def tell(line: str) -> None:
        if engine.peers.is_main:
            print(line, file=sys.stderr)

    for names in _groups(options.models, options.together or len(options.models)):
        encoders = list[Encoder]()
        for name in names:
            try:
                encoders.append(
                    together(engine.peers, lambda name=name: _load(options, name, engine.peers))
                )
            except FAILURES as error:
                tell(f"{name}: {error}")
                summary.failures |= {
                    Job(task=task, model=name, resize=", ".join(resizes)): str(error)
                    for task in tasks
                }
        summary += run_suite(
            encoders,
            tasks,
            requests.open,
            options.out or "results",
            resizes=resizes,
            engine=engine,
            tell=tell,
        )
    return summary


def show_summary(summary: Summary) -> None:
    """A line a task, a column a model, and what failed."""
    results = {
        job: Result.from_json(path.read_text(encoding="utf-8"))
        for job, path in summary.results.items()
    }
    columns = list(dict.fromkeys((job.model, job.resize) for job in results))
    table = Table("task", "metric", box=None)
    for model, resize in columns:
        table.add_column(Text(f"{Path(model).name}, {resize}"))
    for task in dict.fromkeys(job.task for job in results):
        own = {
            (job.model, job.resize): result for job, result in results.items() if job.task == task
        }
        metric = next(iter(own.values())).protocol["metric"]
        cells = (
            f"{own[column].metrics[metric]:.2%}" if column in own else "—" for column in columns
        )
        table.add_row(Text(task), metric, *cells)
    if results:
        show(table)
    for path in summary.results.values():
        print(path)
    if summary.kept:
        print(
            f"{len(summary.kept)} of {len(summary.results)} results were there already",
            file=sys.stderr,
        )
    for job, reason in summary.failures.items():
        where = ", ".join(filter(None, (job.model, job.task, job.resize)))
        print(f"failed: {where}: {reason}", file=sys.stderr)


def _load(options: Evaluate, name: str, peers: Peers) -> Encoder:
    return options.load(name, device=str(peers.device) if peers.size > 1 else None)


def _groups(names: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))
