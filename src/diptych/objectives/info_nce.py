"""Symmetric InfoNCE, CLIP's loss: the equation, and the same numbers from tiles.

`info_nce` is the equation on the whole logit matrix; only tests and small examples can afford it.
`tiled_info_nce` gives the same loss and gradients, on one or many processes, in the memory of a few
rows of logits (see `logit_tiles`).
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


def info_nce(
    images: Float[Tensor, "pairs width"],
    texts: Float[Tensor, "pairs width"],
    scale: Scalar,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020, figure 3): which text belongs to
    this image, and back.

    `images`, `texts`: unit rows, row i of one belongs to row i of the other. `scale`: the inverse
    temperature.

    >>> import torch
    >>> from diptych.objectives.info_nce import info_nce
    >>> round(info_nce(torch.eye(4), torch.eye(4), torch.tensor(1.0)).item(), 4)  # log(1 + 3 / e)
    0.7437
    """
    logits = scale * images @ texts.T
    pair = torch.arange(len(logits), device=logits.device)
    by_image = F.cross_entropy(logits, pair, label_smoothing=label_smoothing)
    by_text = F.cross_entropy(logits.T, pair, label_smoothing=label_smoothing)
    return (by_image + by_text) / 2


def tiled_info_nce(
    images: Float[Tensor, "pairs width"],
    texts: Float[Tensor, "pairs width"],
    scale: Scalar,
    *,
    label_smoothing: float = 0.0,
    tile: int = 512,
    peers: Peers = _ALONE,
) -> Float[Tensor, ""]:
    """`info_nce` of everybody's pairs in tiles of `tile` rows; all processes bring the same number
    of pairs.

    Two sweeps: log-sum-exps in the forward pass, and tiles computed anew in the backward pass, as
    a softmax needs the whole sum before its first gradient. Memory: two tiles of `tile` x global
    batch, and the global batch's texts.

    >>> import torch
    >>> from diptych.objectives.info_nce import tiled_info_nce
    >>> round(tiled_info_nce(torch.eye(4), torch.eye(4), torch.tensor(1.0), tile=3).item(), 4)
    0.7437
    """
    everyones = gather_with_gradient(texts, peers)
    with torch.autocast(images.device.type, enabled=False):
        images, everyones, scale = logit_precision(images, everyones, scale)
        return _InfoNce.apply(images, everyones, scale, label_smoothing, tile, peers)


class _InfoNce(torch.autograd.Function):
    """With P the softmax over rows plus the softmax over columns of S, dS = (P - 2 targets) / 2
    pairs.

    Log-sum-exps are kept relative to the positive of their row or column, log(sum_j exp(S_ij -
    S_ii)). That is the pair's loss -log softmax(S)_ii itself, never negative, so rounding has no
    large logit to round, and none has to be subtracted later.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        texts: Tensor,
        scale: Tensor,
        label_smoothing: float,
        tile: int,
        peers: Peers,
    ) -> Tensor:
        rows = LogitTiles(images, texts, scale, tile, peers)
        positives = peers.all_gather(rows.positives)
        by_image = torch.empty_like(rows.positives)
        by_text = torch.full_like(positives, -torch.inf)
        spare = torch.empty_like(rows.buffer)
        for part in rows.slices():
            # A row is whole in its tile. A column is spread over tiles and processes: its
            # log-sum-exps are joined, here and behind the loop.
            logits = rows.logits(part)
            by_row = torch.sub(logits, rows.positives[part, None], out=spare[: len(logits)])
            by_image[part] = _log_sum_exp_(by_row, 1)
            of_tile = _log_sum_exp_(logits.sub_(positives), 0)
            torch.logaddexp(by_text, of_tile, out=by_text)
        # Log-sum-exp over processes: exp of differences to the largest can't overflow.
        largest = peers.max(by_text)
        by_text = largest + peers.sum((by_text - largest).exp_()).log_()

        ctx.save_for_backward(images, texts, scale, positives, by_image, by_text)
        ctx.constants = label_smoothing, tile, peers
        own = by_text[rows.first : rows.first + len(images)]
        # Label smoothing mixes the targets with 1 / pairs everywhere, which adds the positive's
        # distance to the mean of its logits. The mean of all logits is the dot product of means.
        smoothing = rows.positives.mean() - rows.scaled.mean(0) @ texts.mean(0)
        return (by_image.mean() + own.mean()) / 2 + label_smoothing * smoothing

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        images, texts, scale, positives, by_image, by_text = ctx.saved_tensors
        label_smoothing, tile, peers = ctx.constants
        with torch.autocast(images.device.type, enabled=False):
            rows = LogitTiles(images, texts, scale, tile, peers)
            sums = LogitGradients(rows, ctx.needs_input_grad)
            spare = torch.empty_like(rows.buffer)
            for part in rows.slices():
                # Two exponentials of each logit. One could serve both softmaxes where logits aren't
                # far apart; but whether they are, the host would have to ask the device.
                d_logits = rows.logits(part)
                by_column = torch.sub(d_logits, positives, out=spare[: len(d_logits)])
                by_column.sub_(by_text).exp_()
                d_logits.sub_(rows.positives[part, None]).sub_(by_image[part, None]).exp_()
                d_logits += by_column
                # Subtract twice the targets: (1 - s) on the diagonal, and s / pairs everywhere.
                if label_smoothing:
                    d_logits -= 2 * label_smoothing / len(texts)
                rows.diagonal(d_logits, part).sub_(2 * (1 - label_smoothing))
                sums.add(d_logits, part)
            d_images, d_texts, d_scale = sums.finish(
                images, scale, gradients[0] / (2 * len(images))
            )
        return d_images, d_texts, d_scale, None, None, None


def _log_sum_exp_(x: Tensor, dim: int) -> Tensor:
    """log(sum of exp) over `dim`; `x` is overwritten."""
    largest = x.amax(dim, keepdim=True)  # exp of differences to it can't overflow
    return x.sub_(largest).exp_().sum(dim).log_().add_(largest.squeeze(dim))
