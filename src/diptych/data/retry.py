"""Trying again what may go right the next time, after pauses that grow."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from diptych.data.files import Unreachable

T = TypeVar("T")

_FIRST, _LONGEST = 0.25, 30.0
"""Seconds of the pauses."""


class Transient(Unreachable):
    """It failed, and may go right the next time: a network, a server under load."""


@dataclass(frozen=True)
class Retry:
    """Tries again up to `times` times, after about 0.25, 0.5, 1, 2, ... at most 30 seconds: each
    half as long to half as long again, drawn from what is tried, so that processes that failed
    together don't come back together. A signal's handler is heard in a pause.

    >>> from diptych.data.retry import Retry, Transient
    >>> tried = []
    >>> def flapping():
    ...     tried.append(1)
    ...     if len(tried) < 2:
    ...         raise Transient("the server is busy")
    ...     return "data"
    >>> Retry(times=3)(flapping, "a.tar")
    'data'
    """

    times: int = 6

    def __call__(self, attempt: Callable[[], T], name: str) -> T:
        """What `attempt` returns. Raises what it raises: of `Transient`, the last."""
        for number in range(self.times):
            try:
                return attempt()
            except Transient:
                time.sleep(self.pause(name, number))
        return attempt()

    def pause(self, name: str, number: int) -> float:
        """Seconds after the failure `number`, counted from 0."""
        drawn = random.Random(f"{name} {number}").uniform(0.5, 1.5)
        return min(_LONGEST, _FIRST * 2**number) * drawn
