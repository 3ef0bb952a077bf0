"""Pictures to vectors in a stream: threads read and decode ahead while the tower works."""

import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from diptych.errors import ImageError

T = TypeVar("T")
P = TypeVar("P")
V = TypeVar("V")
R = TypeVar("R")
_PATIENCE = 3.0
"""Seconds that threads have to finish what they are at, when nobody wants it any more."""


def extract(
    items: Iterable[T],
    prepare: Callable[[T], P],
    encode: Callable[[list[P]], V],
    *,
    batch_size: int,
    threads: int,
    unreadable: Callable[[T, ImageError], None] | None = None,
    group: Callable[[T], Hashable] = lambda item: None,
) -> Iterator[tuple[list[T], V]]:
    """Batches of items and their vectors, in order. Memory: three batches of prepared pictures,
    however many items.

    `prepare` runs in `threads` threads (0: in the caller's), `encode` in the caller's. An item
    whose `prepare` raises ImageError is given to `unreadable` and left out; without `unreadable`
    the error is raised. Neighbours of different `group` don't share a batch.

    >>> from diptych.encoder import extract
    >>> list(extract([1, 2, 3], lambda n: n * n, sum, batch_size=2, threads=1))
    [([1, 2], 5), ([3], 9)]
    """

    def attempt(item: T) -> tuple[T, P | ImageError]:
        try:
            return item, prepare(item)
        except ImageError as error:
            return item, error

    names, prepared = list[T](), list[P]()
    ahead = (
        _ahead(attempt, items, threads, depth=2 * batch_size)
        if threads
        else (attempt(item) for item in items)
    )
    # Closed: the threads end with the last batch or the first error, whichever comes.
    with closing(ahead) as results:
        for item, result in results:
            if names and group(item) != group(names[0]):
                yield names, encode(prepared)
                names, prepared = [], []
            if not isinstance(result, ImageError):
                names.append(item)
                prepared.append(result)
            elif unreadable is None:
                raise result
            else:
                unreadable(item, result)
            if len(names) == batch_size:
                yield names, encode(prepared)
                names, prepared = [], []
    if names:
        yield names, encode(prepared)


def _ahead(
    work: Callable[[T], R], items: Iterable[T], threads: int, depth: int
) -> Generator[R, None, None]:
    """`map(work, items)` in threads, at most `depth` items ahead of who takes the results.

    No pool of the library's: that one waits for its threads whatever happens, and a thread that
    reads from a disk which doesn't answer would keep the process from ending.
    """
    tasks, waiting = SimpleQueue[tuple[Future[R], T] | None](), deque[Future[R]]()
    crew = list[Thread]()
    try:
        for item in items:
            if len(crew) < threads:
                crew.append(Thread(target=_serve, args=(tasks, work), daemon=True))
                crew[-1].start()
            waiting.append(Future())
            tasks.put((waiting[-1], item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        for _ in crew:
            tasks.put(None)
        end = time.monotonic() + _PATIENCE
        for thread in crew:
            thread.join(max(0.0, end - time.monotonic()))


def _serve(tasks: SimpleQueue[tuple[Future[R], T] | None], work: Callable[[T], R]) -> None:
    while (task := tasks.get()) is not None:
        future, item = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work(item))
            except BaseException as error:  # noqa: BLE001  (raised where the result is asked for)
                future.set_exception(error)
