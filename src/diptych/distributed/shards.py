"""Tensors of which each process may hold a shard, for who works on its own part of them."""

# The list-wise norm has no public name.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, sharing its memory; of an ordinary one, all of it."""
    if not dist.is_initialized():
        return tensor
    from torch.distributed.tensor import DTensor  # takes a second, and alone there is none

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def squared_norms(parts: Sequence[Tensor], like: Sequence[Tensor]) -> Tensor:
    """The square of each tensor's L2 norm, over all of its shards, as one vector [tensors], the
    same on every process that shares them. `parts` are this process's parts of them, and `like` are
    tensors that are sharded alike.

    One all-reduce for all that are sharded alike, however many they are. In float32, or in float64
    where a tensor is.

    >>> import torch
    >>> from diptych.distributed import squared_norms
    >>> tensors = [torch.tensor([3.0, 4.0]), torch.ones(2, 2)]
    >>> squared_norms(tensors, like=tensors)
    tensor([25.,  4.])
    """
    wide = torch.float64 if any(p.dtype == torch.float64 for p in parts) else torch.float32
    norms = torch._foreach_norm(list(parts), 2, dtype=wide)
    squares = torch.stack(list(norms)).square()
    return _summed(squares, like) if dist.is_initialized() else squares


def _summed(squares: Tensor, like: Sequence[Tensor]) -> Tensor:
    """Each square summed over the shards of its tensor."""
    from torch.distributed.tensor import DTensor, Partial, Replicate

    # What lies on one mesh, and is sharded over the same of its dimensions, is summed together.
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, tensor in enumerate(like):
        if isinstance(tensor, DTensor):
            whole = tuple(placement.is_replicate() for placement in tensor.placements)
            alike.setdefault((tensor.device_mesh, whole), []).append(place)
    for places in alike.values():
        sample = like[places[0]]
        assert isinstance(sample, DTensor)
        sums = [Replicate() if p.is_replicate() else Partial() for p in sample.placements]
        own = torch.stack([squares[place] for place in places])
        total = DTensor.from_local(own, sample.device_mesh, sums).full_tensor()
        for place, square in zip(places, total.unbind(), strict=True):
            squares[place] = square
    return squares
