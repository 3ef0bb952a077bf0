"""What a person sees while a run goes on."""

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diptych.terminal import escaped
from diptych.training.metrics import Row, is_evaluation

_MORE = 0.02
"""Share of the time by which the process that waits longest is beyond the mean, to be named."""


def say(sentences: Iterable[str]) -> None:
    """What a person should know before a run starts, a line each."""
    console = Console(stderr=True, highlight=False)
    for sentence in sentences:
        console.print(escaped(sentence), soft_wrap=True, markup=False)


class Bar:
    """A logger for a person: a bar with loss, samples/s, the share of time spent waiting for data,
    and the time left.

    Where there is no terminal (a log file), one line a report in place of the bar.
    """

    def __init__(self, step: int, steps: int):
        self._console = Console(stderr=True)
        self._steps = steps
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=step, note="first batch")

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, step: int) -> None:
        """Move to `step`."""
        self._bar.update(self._task, completed=step)

    def __call__(self, row: Row) -> None:
        """Show a row of the metrics."""
        if is_evaluation(row):
            for line in _measured(row):
                text = escaped(f"step {row['step']}: {line}")
                self._console.print(text, highlight=False, soft_wrap=True, markup=False)
            return
        note = (
            f"loss {row['loss']:.3f} · {row['samples_per_second']:,.0f}/s · "
            f"data wait {row['data_wait']:.0%}{_of_slowest(row)}"
        )
        self._bar.update(self._task, note=note)
        if not self._console.is_terminal:
            self._console.print(
                f"step {row['step']}/{self._steps} · {note}", highlight=False, soft_wrap=True
            )


def _of_slowest(row: Row) -> str:
    """Which process waits for data much longer than the others."""
    most = row["data_wait_max"]
    return f" (rank {row['data_wait_rank']}: {most:.0%})" if most > row["data_wait"] + _MORE else ""


def _measured(row: Row) -> Iterable[str]:
    """A line of what was measured, and one for each set that failed."""
    scores = [f"{name} {value:.1%}" for name, value in row.get("evaluation", {}).items()]
    for name in (name for name in row if name.startswith("val/")):
        scores.append(
            f"{name} {row[name]:.3f}" if name == "val/loss" else f"{name} {row[name]:.1%}"
        )
    if scores:
        yield ", ".join(scores)
    for reason in row.get("evaluation_failed", ()):
        yield f"evaluation failed; training goes on. {reason}"
