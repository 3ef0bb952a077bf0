"""Tensors that all processes write together, each the pieces that it has (torch's distributed
checkpoints, https://docs.pytorch.org/docs/stable/distributed.checkpoint.html).

torch plans who writes what, sees that every number of each tensor is written once, and brings the
error of one process to all. Where the pieces go is for the caller to say.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from diptych.distributed.peers import Peers
from diptych.distributed.shards import as_shard, local

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


class Piece(NamedTuple):
    """What this process writes of a tensor."""

    tensor: Tensor
    """All of it, or this process's shard: says shape, kind and place, and is read no more."""
    copy: Tensor
    """The numbers, contiguous, in the CPU's memory."""


@runtime_checkable
class Store(Protocol):
    """Where tensors are written."""

    def create(self, tensors: Mapping[str, Tensor]) -> Any:
        """Make room for tensors, which are on `meta`; what `put` needs to know. One process calls
        it, before any calls `put`."""

    def put(self, room: Any, pieces: Iterable[tuple[str, int, Tensor]]) -> None:
        """Write pieces of tensors: of each the name, how many of the tensor's numbers come before
        it, and its own."""


def own_pieces(
    tensors: Iterable[tuple[str, Tensor]], peers: Peers, of_first: Collection[str] = ()
) -> dict[str, Piece]:
    """Copies of what this process is to write of `tensors`. No process waits for another.

    Of shards that several processes have, one writes; tensors that all have are dealt out, save
    those named in `of_first`, of which the first process's count.

    >>> import torch
    >>> from diptych.distributed import Peers, own_pieces
    >>> own_pieces([("a", torch.ones(2))], Peers())["a"].copy
    tensor([1., 1.])
    """
    loads, found = [0] * peers.size, dict[str, Piece]()
    for number, (name, tensor) in enumerate(tensors):
        shard = as_shard(tensor)
        if shard is not None:
            own = _is_own(shard, number)
        else:
            owner = 0 if name in of_first else loads.index(min(loads))
            loads[owner] += tensor.nbytes
            own = owner == peers.rank
        if own:
            piece = local(tensor.detach())
            copy = piece.to("cpu", copy=True, memory_format=torch.contiguous_format)
            found[name] = Piece(tensor.detach(), copy)
    return found


def _is_own(shard: "DTensor", number: int) -> bool:
    """Whether this process writes its shard of a tensor, which others may have, too: they take
    turns with the tensors."""
    which, copies = 0, 1
    coordinate = shard.device_mesh.get_coordinate()
    assert coordinate is not None
    places = zip(coordinate, shard.device_mesh.shape, shard.placements, strict=True)
    for place, size, placement in places:
        if placement.is_replicate():
            which, copies = which * size + place, copies * size
    return which == number % copies and shard.to_local().numel() > 0
