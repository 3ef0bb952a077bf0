"""Memory that workers write into and their parent reads from, a slot for each answer.

It is shared and has no name: no size of /dev/shm limits it, it is made once and not for each
answer, and it is gone with those who know it. On a GPU it is page-locked, so that copies to the
device leave straight from where a worker wrote.
"""

import contextlib
import mmap
from collections.abc import Generator
from typing import Any

import torch

from diptych.errors import DataError


class Ring:
    """`slots` times `size` bytes. Pages are taken when they are first written to.

    Raises DataError where the system has no place for it.

    >>> from diptych.data.ring import Ring
    >>> ring = Ring(slots=4, size=1000)
    >>> len(ring.slot(5)), ring.slots * ring.size
    (1000, 4000)
    """

    def __init__(self, slots: int, size: int):
        self.slots, self.size = slots, size
        try:
            self._memory = memoryview(mmap.mmap(-1, slots * size))
        except (OSError, OverflowError, ValueError) as error:
            raise DataError(
                f"there is no memory for {slots * size / 1e6:,.0f} MB of decoded pictures "
                f"({error}); a smaller --data.prefetch needs less"
            ) from error

    def slot(self, number: int) -> memoryview:
        """That of the answer `number`, counted on and on: it takes the place of the one `slots`
        before."""
        start = number % self.slots * self.size
        return self._memory[start : start + self.size]

    @contextlib.contextmanager
    def pinned(self) -> Generator[None, None, None]:
        """Within, the memory is page-locked for CUDA, if the system allows so much; copies from it
        are slower else, and no others."""
        whole = torch.frombuffer(self._memory, dtype=torch.uint8)
        cuda: Any = torch.cuda.cudart()
        locked = int(cuda.cudaHostRegister(whole.data_ptr(), whole.numel(), 0)) == 0
        try:
            yield
        finally:
            if locked:
                cuda.cudaHostUnregister(whole.data_ptr())
