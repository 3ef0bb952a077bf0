"""The pairwise sigmoid loss, SigLIP's: the equation, and the same numbers from tiles.

`sigmoid_loss` is the equation on the whole logit matrix; only tests and small examples can afford
it. `tiled_sigmoid_loss` gives the same loss and gradients, on one or many processes, in the memory
of a few rows of logits (see `logit_tiles`).
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from diptych.distributed import Peers
from diptych.objectives.features import gather_with_gradient
from diptych.objectives.logit_tiles import LogitGradients, LogitTiles, Scalar, logit_precision

_ALONE = Peers()


def sigmoid_loss(
    images: Float[Tensor, "pairs width"],
    texts: Float[Tensor, "pairs width"],
    scale: Scalar,
    bias: Scalar,
) -> Float[Tensor, ""]:
    """The pairwise sigmoid loss (Zhai et al. 2023, arXiv:2303.15343, equation 1): does this text
    belong to this image?

    >>> import torch
    >>> from diptych.objectives.sigmoid_loss import sigmoid_loss
    >>> scale, bias = torch.tensor(1.0), torch.tensor(0.0)
    >>> round(sigmoid_loss(torch.eye(4), torch.eye(4), scale, bias).item(), 4)
    2.3927
    """
    logits = scale * images @ texts.T + bias
    signs = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(signs * logits).sum() / len(logits)


def tiled_sigmoid_loss(
    images: Float[Tensor, "pairs width"],
    texts: Float[Tensor, "pairs width"],
    scale: Scalar,
    bias: Scalar,
    *,
    tile: int = 512,
    peers: Peers = _ALONE,
) -> Float[Tensor, ""]:
    """`sigmoid_loss` of everybody's pairs in tiles of `tile` rows; all processes bring the same
    number of pairs.

    One sweep: no sum over the batch stands inside a logarithm, so the forward pass knows the
    gradients already. Memory as `tiled_info_nce`.

    >>> import torch
    >>> from diptych.objectives.sigmoid_loss import tiled_sigmoid_loss
    >>> scale, bias = torch.tensor(1.0), torch.tensor(0.0)
    >>> round(tiled_sigmoid_loss(torch.eye(4), torch.eye(4), scale, bias, tile=3).item(), 4)
    2.3927
    """
    everyones = gather_with_gradient(texts, peers)
    graph = torch.is_grad_enabled()
    with torch.autocast(images.device.type, enabled=False):
        images, everyones, scale, bias = logit_precision(images, everyones, scale, bias)
        return _SigmoidLoss.apply(images, everyones, scale, bias, tile, peers, graph)


class _SigmoidLoss(torch.autograd.Function):
    """-log sigmoid(x) is softplus(-x), and a logit counts as x = S for the pair that belongs
    together, as x = -S for all others. So with the positives' sign flipped in S the loss is the sum
    of softplus(S), and dS = sigmoid(S) flipped back."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        texts: Tensor,
        scale: Tensor,
        bias: Tensor,
        tile: int,
        peers: Peers,
        graph: bool,
    ) -> Tensor:
        rows = LogitTiles(images, texts, scale, tile, peers)
        sums = LogitGradients(rows, ctx.needs_input_grad)
        total, d_bias = torch.zeros_like(scale.sum()), torch.zeros_like(bias)
        for part in rows.slices():
            logits = rows.logits(part).add_(bias)
            rows.diagonal(logits, part).neg_()
            # Beyond the threshold softplus(x) is x: at 40, not at torch's 20, that is exact in
            # float64, too.
            total += F.softplus(logits, threshold=40).sum()
            # The tile is here: its gradient is made at once, where one will be asked for.
            if graph:
                d_logits = logits.sigmoid_()
                rows.diagonal(d_logits, part).neg_()
                sums.add(d_logits, part)
                d_bias += d_logits.sum()
        if graph:
            mean = torch.ones_like(total) / len(images)
            ctx.gradients = *sums.finish(images, scale, mean), d_bias * mean
        return total / len(images)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        # The loss is one number: its gradient only scales those that the forward pass made.
        d_images, d_texts, d_scale, d_bias = (
            None if each is None else each * gradients[0] for each in ctx.gradients
        )
        return d_images, d_texts, d_scale, d_bias, None, None, None
