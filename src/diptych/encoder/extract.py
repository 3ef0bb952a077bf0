"""Pictures to vectors in a stream: threads read and decode ahead while the tower works."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import closing
from typing import TypeVar

from diptych.errors import ImageError
from diptych.threads import ahead

T = TypeVar("T")
P = TypeVar("P")
V = TypeVar("V")


def extract(
    items: Iterable[T],
    prepare: Callable[[T], P],
    encode: Callable[[list[P]], V],
    *,
    batch_size: int,
    threads: int,
    unreadable: Callable[[T, ImageError], None] | None = None,
    group: Callable[[T], Hashable] = lambda item: None,
    name: Callable[[T], str] | None = None,
) -> Iterator[tuple[list[T], V]]:
    """Batches of items and their vectors, in order. Memory: three batches of prepared pictures,
    however many items.

    `prepare` runs in `threads` threads (0: in the caller's), `encode` in the caller's. An item
    whose `prepare` raises ImageError is given to `unreadable` and left out; without `unreadable`
    the error is raised. Neighbours of different `group` don't share a batch. An
    item that is waited for for long is said by its `name`.

    >>> from diptych.encoder import extract
    >>> list(extract([1, 2, 3], lambda n: n * n, sum, batch_size=2, threads=1))
    [([1, 2], 5), ([3], 9)]
    """

    def attempt(item: T) -> tuple[T, P | ImageError]:
        try:
            return item, prepare(item)
        except ImageError as error:
            # Without its frames, which hold the picture: the error may wait behind slower ones.
            error.__cause__ = error.__context__ = None
            return item, error.with_traceback(None)

    names, prepared = list[T](), list[P]()
    attempts = (
        ahead(attempt, items, threads, depth=2 * batch_size, name=name)
        if threads
        else (attempt(item) for item in items)
    )
    # Closed: the threads end with the last batch or the first error, whichever comes.
    with closing(attempts) as results:
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
