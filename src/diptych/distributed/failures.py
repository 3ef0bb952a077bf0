"""Errors that reach all processes, so that none waits for one that has given up."""

from collections.abc import Callable
from typing import TypeVar

from diptych.distributed.peers import Peers
from diptych.errors import DiptychError, first_line

T = TypeVar("T")
FAILURES = (DiptychError, OSError, RuntimeError, MemoryError)
"""What may go wrong with data, disks, memory and devices; torch's own errors are RuntimeErrors."""


class PeerError(DiptychError):
    """What another process raised, in its words."""


def together(peers: Peers, work: Callable[[], T]) -> T:
    """What `work` gives here. Every process calls it; an error on one is an error on all, after
    their work.

    >>> from diptych.distributed import Peers, together
    >>> together(Peers(), lambda: 6 * 7)
    42
    """
    result, error = _attempt(work)
    reasons = peers.all_gather_objects(_said(error))
    if error is not None:
        raise error
    for reason in reasons:
        if reason is not None:
            raise PeerError(reason)
    return result[0]


def on_main(peers: Peers, work: Callable[[], T]) -> T:
    """What `work` gives on the first process, for all of them; an error there is an error
    everywhere.

    >>> from diptych.distributed import Peers, on_main
    >>> on_main(Peers(), lambda: 6 * 7)
    42
    """
    result, error = _attempt(work) if peers.is_main else ([], None)
    [(shared, reason), *_] = peers.all_gather_objects((result, _said(error)))
    if error is not None:
        raise error
    if reason is not None:
        raise PeerError(reason)
    return shared[0]


def _attempt(work: Callable[[], T]) -> tuple[list[T], Exception | None]:
    try:
        return [work()], None
    except Exception as error:  # noqa: BLE001 (whatever it is, the others wait to know it)
        return [], error


def _said(error: Exception | None) -> str | None:
    """In words; of a kind that isn't written for people, with its kind."""
    if error is None:
        return None
    kind = type(error).__name__
    return str(error) or kind if isinstance(error, FAILURES) else f"{kind}: {first_line(error)}"
