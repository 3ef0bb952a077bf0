"""The other processes of a run, as a value that is passed in.

`Peers()` is the single process; every collective on it is the identity. It is also the tests'
reference.
"""

from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from diptych.distributed.watch import Watch

Object = TypeVar("Object")


@dataclass(frozen=True)
class Pending:
    """What a collective gives when all have taken part in it."""

    result: Tensor
    work: dist.Work | None = None

    def wait(self) -> Tensor:
        """The result. On a GPU its stream waits, and not the caller."""
        if self.work is not None:
            self.work.wait()
        return self.result


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
    per_node: int = 1
    """How many of the processes run on this machine."""
    watch: Watch | None = field(default=None, compare=False, repr=False)
    """Who notices when another process is lost; None: nobody."""
    group: dist.ProcessGroup | None = field(default=None, compare=False, repr=False)
    """Over which the collectives go; None: the one of all."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def all_gather(self, local: Tensor) -> Tensor:
        """All-gather: [local, ...] -> [size * local, ...] in rank order, without gradient. All
        processes give tensors of one shape."""
        return self.start_all_gather(local).wait()

    def start_all_gather(self, local: Tensor) -> "Pending":
        """`all_gather`, under way."""
        if self.size == 1:
            return Pending(local)
        everyones = local.new_empty(self.size * len(local), *local.shape[1:])
        work = dist.all_gather_into_tensor(
            everyones, local.contiguous(), group=self.group, async_op=True
        )
        return Pending(everyones, work)

    def sum(self, local: Tensor) -> Tensor:
        """All-reduce: the elementwise sum over all processes, as a new tensor, without gradient."""
        total = local.clone()
        if self.size > 1:
            dist.all_reduce(total, group=self.group)
        return total

    def max(self, local: Tensor) -> Tensor:
        """All-reduce: the elementwise maximum over all processes, as a new tensor, without
        gradient."""
        total = local.clone()
        if self.size > 1:
            dist.all_reduce(total, op=dist.ReduceOp.MAX, group=self.group)
        return total

    def start_reduce_scatter(self, everyones: Tensor) -> "Pending":
        """Reduce-scatter, under way: [size * local, ...] -> [local, ...], the sum over all
        processes, of which each keeps its own rows."""
        if self.size == 1:
            return Pending(everyones)
        own = torch.empty_like(everyones[: len(everyones) // self.size])
        work = dist.reduce_scatter_tensor(
            own, everyones.contiguous(), group=self.group, async_op=True
        )
        return Pending(own, work)

    def any(self, local: bool) -> bool:
        """Whether `local` is true on any process; the result is the same on all."""
        if self.size == 1:
            return local
        return bool(self.max(torch.tensor(int(local), device=self.device)).item())

    def all_gather_objects(self, local: Object) -> list[Object]:
        """All-gather of any objects: one from each process, in rank order. They are pickled: only
        for what our own processes made."""
        if self.size == 1:
            return [local]
        everyones: list[Any] = [None] * self.size
        dist.all_gather_object(everyones, local, group=self.group)
        return everyones

    def barrier(self) -> None:
        """Barrier: return when every process has come here."""
        if self.size > 1:
            dist.barrier(group=self.group)
