"""Pictures to vectors in a stream: threads read and decode ahead while the tower works."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from diptych.errors import ImageError

T = TypeVar("T")
R = TypeVar("R")


def extract(
    items: Iterable[T],
    prepare: Callable[[T], UInt8[Tensor, "3 size size"]],
    encode: Callable[[UInt8[Tensor, "batch 3 size size"]], Float[Tensor, "batch width"]],
    *,
    batch_size: int,
    threads: int,
    unreadable: Callable[[T, ImageError], None] | None = None,
) -> Iterator[tuple[list[T], Float[Tensor, "batch width"]]]:
    """Batches of items and their vectors, in order. Memory: three batches of prepared pictures, however many items.

    `prepare` runs in `threads` threads (0: in the caller's), `encode` in the caller's. An item whose `prepare` raises
    ImageError is given to `unreadable` and left out; without `unreadable` the error is raised.

    >>> import torch
    >>> from diptych.encoder import extract
    >>> mean = lambda batch: batch.float().mean((1, 2, 3))[:, None]
    >>> grey = lambda level: torch.full((3, 8, 8), level, dtype=torch.uint8)
    >>> [(items, vectors.tolist()) for items, vectors in extract([1, 2, 3], grey, mean, batch_size=2, threads=1)]
    [([1, 2], [[1.0], [2.0]]), ([3], [[3.0]])]
    """

    def attempt(item: T) -> tuple[T, Tensor | ImageError]:
        try:
            return item, prepare(item)
        except ImageError as error:
            return item, error

    names, pixels = list[T](), list[Tensor]()
    ahead = _ahead(attempt, items, threads, depth=2 * batch_size) if threads else (attempt(item) for item in items)
    with closing(ahead) as outcomes:  # the threads end with the last batch or the first error, whichever comes
        for item, outcome in outcomes:
            if isinstance(outcome, Tensor):
                names.append(item)
                pixels.append(outcome)
            elif unreadable is None:
                raise outcome
            else:
                unreadable(item, outcome)
            if len(names) == batch_size:
                yield names, encode(torch.stack(pixels))
                names, pixels = [], []
    if names:
        yield names, encode(torch.stack(pixels))


def _ahead(work: Callable[[T], R], items: Iterable[T], threads: int, depth: int) -> Generator[R, None, None]:
    """`map(work, items)` in threads, at most `depth` items ahead of who takes the results."""
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
