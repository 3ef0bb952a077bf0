"""Threads that read ahead, for somebody who listens while he waits for them."""

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import RLock, Thread
from typing import TypeVar

from diptych.errors import DataWarning

T = TypeVar("T")
R = TypeVar("R")

SLOW = 10.0
"""Seconds after which a read that isn't done is said."""
_PATIENCE = 3.0
"""Seconds that threads have to finish what they are at, when nobody wants it any more."""


class Turn:
    """A lock that its holder may take again. What holds one can be copied and pickled: the copy's
    is a new one, of its own process.

    >>> import pickle
    >>> from diptych.threads import Turn
    >>> turn = Turn()
    >>> with turn, turn, pickle.loads(pickle.dumps(turn)):
    ...     pass
    """

    def __init__(self):
        self._lock = RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type["Turn"], tuple[()]]:
        return Turn, ()


def usable_cores() -> int:
    """How many cores this process may run on: a container or a scheduler may give it a few of the
    machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def warn_of_slow(name: str) -> None:
    """Say what is being read so slowly."""
    warnings.warn(
        f"reading {name} has taken {SLOW:g} s and goes on; a disk or a network that hangs looks "
        "like that",
        DataWarning,
        stacklevel=2,
    )


def ahead(
    work: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    depth: int,
    name: Callable[[T], str] | None = None,
) -> Generator[R, None, None]:
    """`map(work, items)` in threads, at most `depth` items ahead of who takes the results. With
    `name`, an item that is waited for for long is said by it.

    No pool of the library's: that one waits for its threads whatever happens, and a thread that
    reads from a disk which doesn't answer would keep the process from ending.

    >>> from diptych.threads import ahead
    >>> list(ahead(abs, [-1, 2, -3], threads=2, depth=1))
    [1, 2, 3]
    """
    tasks, waiting = SimpleQueue[tuple[Future[R], T] | None](), deque[tuple[Future[R], T]]()
    crew = list[Thread]()
    try:
        for item in items:
            if len(crew) < threads:
                crew.append(Thread(target=_serve, args=(tasks, work), daemon=True))
                crew[-1].start()
            waiting.append((Future(), item))
            tasks.put(waiting[-1])
            if len(waiting) > depth:
                yield _result(*waiting.popleft(), name)
        while waiting:
            yield _result(*waiting.popleft(), name)
    finally:
        for future, _ in waiting:
            future.cancel()
        for _ in crew:
            tasks.put(None)
        end = time.monotonic() + _PATIENCE
        for thread in crew:
            thread.join(max(0.0, end - time.monotonic()))


def _result(future: Future[R], item: T, name: Callable[[T], str] | None) -> R:
    if name is not None and not wait([future], SLOW).done:
        warn_of_slow(name(item))
    return future.result()


def _serve(tasks: SimpleQueue[tuple[Future[R], T] | None], work: Callable[[T], R]) -> None:
    while (task := tasks.get()) is not None:
        future, item = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work(item))
            except BaseException as error:  # noqa: BLE001  (raised where the result is asked for)
                future.set_exception(error)
