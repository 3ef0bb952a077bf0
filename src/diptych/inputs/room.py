"""Memory for decoding, shared by all that decode at the same time.

One giant fits into memory, one in each of eight threads doesn't. So whoever decodes a large picture
takes its bytes from a common room first, and waits while there is no place; small ones just go.
"""

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing import get_context

from diptych.errors import DataError, ImageError

MOST = 1_800_000_000
"""Bytes that decoding may take, all pictures together."""
_SMALL = 1 << 24
"""Bytes that nobody counts."""


class _Count:
    def __init__(self, value: int):
        self.value = value


class Room:
    """`size` bytes for the threads of a process and, in `shared_by`, of those that are forked.

    >>> from diptych.inputs.room import Room
    >>> room = Room(10**9)
    >>> with room.held():
    ...     room.take(10**8)
    ...     room.free
    900000000
    >>> room.free
    1000000000
    """

    def __init__(self, size: int):
        self.size = size
        self._mine = threading.local()
        self._changed, self._free = threading.Condition(), _Count(size)

    @property
    def free(self) -> int:
        """Bytes that nobody has taken; below 0 where one had to go on without waiting."""
        return self._free.value

    @contextmanager
    def shared_by(self, processes: int) -> Generator[None, None, None]:
        """Within, count with so many processes that this one forks. Nothing may be held at the
        beginning and at the end; what they still hold when they are killed is free again then.

        Raises DataError where the system has no place for the count.
        """
        before = self._changed, self._free
        if processes and sys.platform == "linux":
            context = get_context("fork")
            try:
                self._changed = context.Condition()
                self._free = context.Value("q", self.size, lock=False)
            except OSError as error:
                raise DataError(
                    f"/dev/shm is full ({error.strerror}): make room there, start the container "
                    "with a larger --shm-size, or load with --data.workers 0"
                ) from error
        try:
            yield
        finally:
            self._changed, self._free = before

    @contextmanager
    def held(self) -> Generator[None, None, None]:
        """What this thread takes in here is given back at the end; inside of another, of that."""
        if hasattr(self._mine, "bytes"):
            yield
            return
        self._mine.bytes = 0
        try:
            yield
        finally:
            taken = self._mine.bytes
            del self._mine.bytes
            if taken:
                with self._changed:
                    self._free.value += taken
                    self._changed.notify_all()

    def take(self, bytes: int) -> None:
        """Wait for so many bytes, in `held`. Raises ImageError for more than the room has."""
        if bytes > self.size:
            raise ImageError(
                f"would take {bytes / 1e9:.1f} GB to decode, more than {self.size / 1e9:.1f}; "
                "scale it down first"
            )
        if bytes < _SMALL:
            return
        with self._changed:
            # Who holds some already doesn't wait: two who did would wait for each other.
            if not self._mine.bytes:
                self._changed.wait_for(lambda: self._free.value >= bytes)
            self._free.value -= bytes
        self._mine.bytes += bytes


room = Room(MOST)
"""The room of all pictures."""
