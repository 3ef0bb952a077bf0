"""A progress bar of bytes."""

import contextlib
from collections.abc import Callable, Generator


@contextlib.contextmanager
def counted(what: str, total: int) -> Generator[Callable[[int], None], None, None]:
    """Yields a function that takes so many bytes more, while a bar on stderr shows the share, the
    rate and the time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda size: bar.advance(task, size)
