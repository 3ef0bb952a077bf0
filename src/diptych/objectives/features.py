"""What objectives do to the towers' outputs before they compare them."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from diptych.distributed import Peers
from diptych.models import TokenKind, Tower, TowerOutput


def unit(vectors: Tensor) -> Tensor:
    """Rows of unit length, in float32 at least, whatever the towers computed in.

    >>> import torch
    >>> from diptych.objectives.features import unit
    >>> unit(torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16))
    tensor([[0.6000, 0.8000]])
    """
    return F.normalize(at_least_float32(vectors), dim=-1)


def at_least_float32(x: Tensor) -> Tensor:
    """In float32, or in float64 if it comes so, whatever autocast computed it in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def encode_views(
    tower: Tower[Any], views: Sequence[Tensor], tokens: TokenKind = "raw"
) -> list[TowerOutput]:
    """What an image tower makes of several views [n, 3, size, size] of the same pictures."""
    # With batch normalisation outputs depend on what stands beside them in the batch: each view
    # then keeps the statistics of its own kind of crop.
    if tower.training and tower.batch_statistics:
        return [tower(view, tokens) for view in views]
    # Otherwise one call of a larger batch gives the same numbers, faster.
    together = tower(torch.cat(list(views)), tokens)
    parts = (output.chunk(len(views)) for output in together)
    return [TowerOutput(*part) for part in zip(*parts, strict=True)]


def gather_with_gradient(
    local: Float[Tensor, "n *rest"], peers: Peers
) -> Float[Tensor, "everyone *rest"]:
    """All-gather of everybody's rows, in rank order, through which gradients flow: each process
    gets the sum of what all say about its own rows (a reduce-scatter)."""
    return local if peers.size == 1 else _Gather.apply(local, peers)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor, peers: Peers) -> Tensor:
        ctx.peers = peers
        return peers.all_gather(local)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor, None]:
        return ctx.peers.reduce_scatter(gradients[0].contiguous()), None
