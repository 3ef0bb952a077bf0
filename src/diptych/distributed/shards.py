"""Tensors of which each process may hold a shard, for who works on them.

Where a process is alone, or nothing is sharded, all of this is the identity.
"""

# The list-wise norm has no public name.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, sharing its memory; of an ordinary one, all of it."""
    shard = as_shard(tensor)
    return tensor if shard is None else shard.to_local()


def whole(tensor: Tensor) -> Tensor:
    """The tensor of which this is a shard. Every process calls it."""
    shard = as_shard(tensor)
    return tensor if shard is None else shard.full_tensor()


@torch.no_grad()
def fill(target: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor, or of it what this process has, into `target`. No process waits for
    another."""
    shard = as_shard(target)
    local(target).copy_(whole if shard is None else _part(whole, shard))


def zeros_by_rows(parameter: Tensor, row: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A zero tensor with a row of the shape `row` for each of the parameter's: beside it, and a
    shard if it is one, of the same rows.

    >>> import torch
    >>> from diptych.distributed import zeros_by_rows
    >>> zeros_by_rows(torch.ones(2, 3), (1,), torch.uint8)
    tensor([[0],
            [0]], dtype=torch.uint8)
    """
    own, shard = local(parameter), as_shard(parameter)
    zeros = torch.zeros((*own.shape[:1], *row), dtype=dtype, device=own.device)
    if shard is None:
        return zeros
    return type(shard).from_local(
        zeros,
        shard.device_mesh,
        shard.placements,
        run_check=False,
        shape=torch.Size((*shard.shape[:1], *row)),
        stride=zeros.stride(),
    )


def shard_like(parameter: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor as `parameter` is: beside it, and a shard if it is one and they have equally
    many rows.

    >>> import torch
    >>> from diptych.distributed import shard_like
    >>> shard_like(torch.zeros(2), torch.tensor(7.0))
    tensor(7.)
    """
    if as_shard(parameter) is None or parameter.shape[:1] != whole.shape[:1]:
        return whole.to(parameter.device)
    found = zeros_by_rows(parameter, whole.shape[1:], whole.dtype)
    fill(found, whole)
    return found


def spread_like(tensor: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor of the same shape as `tensor` is: a shard along the same dimension if it is
    one. No process waits for another.

    >>> import torch
    >>> from diptych.distributed import spread_like
    >>> spread_like(torch.zeros(2), torch.ones(2))
    tensor([1., 1.])
    """
    shard = as_shard(tensor)
    return whole if shard is None else _spread(whole.to(tensor.device), shard)


def load_whole(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy each of the whole `tensors` into the one of its name, as `load_state_dict` does. Raises
    ValueError, with nothing copied, where names or shapes differ.

    >>> import torch
    >>> from diptych.distributed import load_whole
    >>> weight = torch.zeros(2)
    >>> load_whole({"weight": weight}, {"weight": torch.ones(2)})
    >>> weight
    tensor([1., 1.])
    >>> load_whole({"weight": weight}, {"bias": torch.ones(2)})
    Traceback (most recent call last):
    ...
    ValueError: weight is missing; bias is not known
    """
    wrong = [f"{name} is missing" for name in targets if name not in tensors]
    wrong += [f"{name} is not known" for name in tensors if name not in targets]
    for name, target in targets.items():
        if name in tensors and tensors[name].shape != target.shape:
            there, here = list(tensors[name].shape), list(target.shape)
            wrong.append(f"{name} has the shape {there} instead of {here}")
    if wrong:
        more = f"; and {len(wrong) - 3} more" if wrong[3:] else ""
        raise ValueError("; ".join(wrong[:3]) + more)
    for name, target in targets.items():
        fill(target, tensors[name])


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


def as_shard(tensor: Tensor) -> "DTensor | None":
    """The tensor, if it is a shard of one."""
    if not dist.is_initialized():
        return None
    from torch.distributed.tensor import DTensor  # takes a second, and alone there is none

    return tensor if isinstance(tensor, DTensor) else None


def _part(whole: Tensor, shard: "DTensor") -> Tensor:
    """What `shard` holds of its tensor, of this one."""
    return _spread(whole, shard).to_local()


def _spread(whole: Tensor, shard: "DTensor") -> "DTensor":
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = shard.device_mesh, shard.placements
    return distribute_tensor(whole.detach(), mesh, placements, src_data_rank=None)


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
