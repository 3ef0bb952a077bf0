"""The other processes of a run, as a value that is passed in.

`Peers()` is the single process; every collective on it is the identity. It is also the tests'
reference."""

from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Object = TypeVar("Object")


@dataclass(frozen=True)
class Peers:
    """This process's place among `size` processes, and its device.

    >>> from diptych.distributed import Peers
    >>> peers = Peers()
    >>> peers.rank, peers.size, peers.is_main
    (0, 1, True)
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def gather(self, local: Tensor) -> Tensor:
        """[local, ...] -> [size * local, ...] in rank order, without gradient; local is the same on
        all processes."""
        if self.size == 1:
            return local
        parts = [torch.empty_like(local) for _ in range(self.size)]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    def sum(self, local: Tensor) -> Tensor:
        """The elementwise sum over all processes, as a new tensor, without gradient."""
        total = local.clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def max(self, local: Tensor) -> Tensor:
        """The elementwise maximum over all processes, as a new tensor, without gradient."""
        total = local.clone()
        if self.size > 1:
            dist.all_reduce(total, op=dist.ReduceOp.MAX)
        return total

    def own_rows_of_sum(self, everyones: Tensor) -> Tensor:
        """[size * local, ...] -> [local, ...]: the sum over all processes, of which each keeps its
        own rows."""
        if self.size == 1:
            return everyones
        rows = len(everyones) // self.size
        if dist.get_backend() == "nccl":  # Half the traffic; Gloo has had it only since torch 2.7.
            own = torch.empty_like(everyones[:rows])
            dist.reduce_scatter(own, list(everyones.split(rows)))
            return own
        return self.sum(everyones)[self.rank * rows : (self.rank + 1) * rows]

    def agree(self, local: bool) -> bool:
        """Whether any process says so; all get the same answer."""
        if self.size == 1:
            return local
        return bool(self.max(torch.tensor(int(local), device=self.device)).item())

    def gather_objects(self, local: Object) -> list[Object]:
        """Everybody's object, in rank order. They are pickled: only for what our own processes
        made."""
        if self.size == 1:
            return [local]
        everyones: list = [None] * self.size
        dist.all_gather_object(everyones, local)
        return everyones

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier()
