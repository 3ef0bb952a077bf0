"""A progress bar around a stream of batches."""

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

A = TypeVar("A", bound=Sized)
B = TypeVar("B")


def track(batches: Iterable[tuple[A, B]], what: str, total: int | None) -> Iterator[tuple[A, B]]:
    """The same (items, result) pairs, while a bar on stderr counts the items, their rate and the
    time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, rate="")
        for batch in batches:
            yield batch
            bar.update(task, advance=len(batch[0]))
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f}/s" if speed else "")
