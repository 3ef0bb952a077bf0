"""What objectives do to the towers' outputs before they compare them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakIdKeyDictionary

from diptych.distributed import Peers, Pending
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
    if tower.batch_statistics:
        return [tower(view, tokens) for view in views]
    # Otherwise one call of a larger batch gives the same numbers: sharded blocks are gathered once.
    together = tower(torch.cat(list(views)), tokens)
    parts = (output.chunk(len(views)) for output in together)
    return [TowerOutput(*part) for part in zip(*parts, strict=True)]


def send(local: Float[Tensor, "n *rest"], peers: Peers) -> Float[Tensor, "n *rest"]:
    """`local`, on its way to everybody: the all-gather that `gather_with_gradient` of it waits for
    begins here. What is computed in between is computed while the rows travel; and in the backward
    pass its gradients, while those of the rows do."""
    if peers.size == 1:
        return local
    transfer = _Transfer(peers, [peers.start_all_gather(local.detach())])
    local, token = _Send.apply(local, transfer)
    _sent[local] = _Sent(token, transfer)
    return local


def gather_with_gradient(
    local: Float[Tensor, "n *rest"], peers: Peers
) -> Float[Tensor, "everyone *rest"]:
    """All-gather of everybody's rows, in rank order, through which gradients flow: each process
    gets the sum of what all say about its own rows (a reduce-scatter)."""
    if peers.size == 1:
        return local
    if local not in _sent:
        local = send(local, peers)
    sent = _sent[local]
    if sent.everyones is None:
        sent.everyones = _Arrive.apply(sent.token, sent.transfer)
    return sent.everyones


def sent_in_parts(
    rows: Shaped[Tensor, "n *rest"], parts: Sequence[Shaped[Tensor, "_ *rest"]]
) -> Shaped[Tensor, "n *rest"]:
    """`rows`, of any kind, which are `parts` behind one another, on their way to everybody as far
    as these are."""
    found = [_sent[part] for part in parts if part in _sent]
    if len(found) < len(parts) or any(part.everyones is not None for part in found):
        return rows
    gathers = [gather for part in found for gather in part.transfer.gathers]
    transfer = _Transfer(found[0].transfer.peers, gathers)
    rows, token = _Send.apply(rows, transfer)
    _sent[rows] = _Sent(token, transfer)
    return rows


class _Transfer:
    """Of some rows the all-gather, or that of each of their parts, and of their gradients the
    reduce-scatter."""

    def __init__(self, peers: Peers, gathers: Sequence[Pending] = ()):
        self.peers = peers
        self.gathers = list(gathers)
        self.scatter: Pending | None = None

    def arrive(self) -> Tensor:
        """Everybody's rows, in rank order."""
        parts = [gather.wait().unflatten(0, (self.peers.size, -1)) for gather in self.gathers]
        self.gathers.clear()
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).flatten(0, 1)


@dataclass
class _Sent:
    """What is known of rows that were sent."""

    token: Tensor
    """Puts `_Arrive` behind `_Send` in the graph: no gradient flows through it. That of the rows
    lies with `transfer`, where nobody reads it before it is there."""
    transfer: _Transfer
    everyones: Tensor | None = None
    """The rows, once they have arrived; gathered once, however many losses ask."""


_sent: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""What was sent, by the rows that `send` gave, as long as they live."""


class _Send(torch.autograd.Function):
    """Comes before the image tower, so its backward pass comes after the image tower's."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, transfer: _Transfer) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.transfer = transfer
        return local.view_as(local), local.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, None]:
        here, pending = gradients[0], ctx.transfer.scatter
        if pending is None:
            return here, None
        gathered, ctx.transfer.scatter = pending.wait(), None
        return gathered if here is None else here + gathered, None


class _Arrive(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, token: Tensor, transfer: _Transfer) -> Tensor:
        ctx.transfer = transfer
        return transfer.arrive()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor, None]:
        transfer, [gradient] = ctx.transfer, gradients
        transfer.scatter = transfer.peers.start_reduce_scatter(gradient.contiguous())
        return gradient.new_zeros(()), None
