"""Numbers that go from a device to the host while the device computes."""

import time
from typing import NamedTuple

import torch
from torch import Tensor

_OFTEN = 0.01


class Posted:
    """The numbers of `tensor`, on their way.

    >>> import torch
    >>> from diptych.training.posted import Posted
    >>> Posted(torch.tensor([1.5, 2.0])).read()
    [1.5, 2.0]
    """

    def __init__(self, tensor: Tensor):
        on_gpu = tensor.device.type == "cuda"
        self._numbers = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_gpu)
        self._numbers.copy_(tensor, non_blocking=True)
        self._arrived = torch.cuda.Event() if on_gpu else None
        if self._arrived is not None:
            self._arrived.record()

    def read(self) -> list[float]:
        """Them; waits until they have come."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._numbers.tolist()

    def has_come(self, seconds: float) -> bool:
        """Whether they have come within so many seconds: a GPU may wait for a process that is
        gone."""
        end = time.monotonic() + seconds
        while self._arrived is not None and not self._arrived.query():
            if time.monotonic() > end:
                return False
            time.sleep(_OFTEN)
        return True


class Told(NamedTuple):
    """What is told of a step: whether it must not be made on any process, as its loss or its
    gradient isn't finite there; its own loss and gradient norm; and, by the others, too, whether a
    process was asked to stop, and whether it is time for a checkpoint."""

    bad: float
    stop: float
    overdue: float
    loss: float
    norm: float


class PostedStep(Posted):
    """A step's `Told`, on its way."""

    def told(self) -> Told:
        """Waits until it has come."""
        return Told(*self.read())
