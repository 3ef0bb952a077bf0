"""Pictures to vectors in a stream: threads read and decode ahead while the tower works."""

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from diptych.errors import ImageError

T = TypeVar("T")
P = TypeVar("P")
V = TypeVar("V")
R = TypeVar("R")


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
    """`map(work, items)` in threads, at most `depth` items ahead of who takes the results."""
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque[Future[R]]()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
