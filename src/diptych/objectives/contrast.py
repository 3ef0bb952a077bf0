"""The contrastive equations, and the same numbers from tiles.

`info_nce` and `sigmoid` are the papers' equations on the whole logit matrix S = scale * images @
texts.T + bias; only tests and small examples can afford them. `tiled_info_nce` and `tiled_sigmoid`
give the same loss and gradients, on one or many processes, holding a few rows of S at a time:

* Every process has the rows of S that belong to its own images, so only texts travel. Its loss is
  the mean over its own pairs. The mean over processes is the loss of the global batch, and
  gradients that are averaged over processes (as DDP does) are the gradients of the global batch: a
  process returns `size` times its features' share of them.
* Logits are float32 (float64 for float64 features), whatever the autocast and whatever the features
  come in.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from diptych.distributed import Peers

_ALONE = Peers()
Scalar = Float[Tensor, ""] | Float[Tensor, "1"]


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
    >>> from diptych.objectives.contrast import info_nce
    >>> round(info_nce(torch.eye(4), torch.eye(4), torch.tensor(1.0)).item(), 4)  # log(1 + 3 / e)
    0.7437
    """
    logits = scale * images @ texts.T
    pair = torch.arange(len(logits), device=logits.device)
    by_image = F.cross_entropy(logits, pair, label_smoothing=label_smoothing)
    by_text = F.cross_entropy(logits.T, pair, label_smoothing=label_smoothing)
    return (by_image + by_text) / 2


def sigmoid(
    images: Float[Tensor, "pairs width"],
    texts: Float[Tensor, "pairs width"],
    scale: Scalar,
    bias: Scalar,
) -> Float[Tensor, ""]:
    """The pairwise sigmoid loss (Zhai et al. 2023, arXiv:2303.15343, equation 1): does this text
    belong to this image?

    >>> import torch
    >>> from diptych.objectives.contrast import sigmoid
    >>> round(sigmoid(torch.eye(4), torch.eye(4), torch.tensor(1.0), torch.tensor(0.0)).item(), 4)
    2.3927
    """
    logits = scale * images @ texts.T + bias
    signs = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(signs * logits).sum() / len(logits)


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

    Two sweeps: log-sum-exps in the forward pass, and tiles computed anew in the backward pass.
    Memory: two tiles of `tile` x global batch, and the global batch's texts.

    >>> import torch
    >>> from diptych.objectives.contrast import tiled_info_nce
    >>> round(tiled_info_nce(torch.eye(4), torch.eye(4), torch.tensor(1.0), tile=3).item(), 4)
    0.7437
    """
    with torch.autocast(images.device.type, enabled=False):
        images, texts, scale = _at_least_float32(images, texts, scale)
        return _InfoNce.apply(images, texts, scale, label_smoothing, tile, peers)


def tiled_sigmoid(
    images: Float[Tensor, "pairs width"],
    texts: Float[Tensor, "pairs width"],
    scale: Scalar,
    bias: Scalar,
    *,
    tile: int = 512,
    peers: Peers = _ALONE,
) -> Float[Tensor, ""]:
    """`sigmoid` of everybody's pairs in tiles of `tile` rows; all processes bring the same number
    of pairs.

    One sweep: no sum over the batch stands inside a logarithm, so the forward pass knows the
    gradients already. Memory as `tiled_info_nce`.

    >>> import torch
    >>> from diptych.objectives.contrast import tiled_sigmoid
    >>> round(tiled_sigmoid(torch.eye(4), torch.eye(4), torch.tensor(1.0), torch.tensor(0.0), tile=3).item(), 4)
    2.3927
    """
    with torch.autocast(images.device.type, enabled=False):
        images, texts, scale, bias = _at_least_float32(images, texts, scale, bias)
        return _Sigmoid.apply(images, texts, scale, bias, tile, peers, torch.is_grad_enabled())


def _at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return tuple(tensor.to(torch.float64 if double else torch.float32) for tensor in tensors)


class _Rows:
    """This process's rows of S, a tile at a time, always in the same buffer."""

    def __init__(
        self, images: Tensor, everyones_texts: Tensor, scale: Tensor, tile: int, peers: Peers
    ):
        self.scaled = images * scale
        self.texts = everyones_texts
        self.first = peers.rank * len(images)
        self.tile = min(tile, len(images))
        self.buffer = images.new_empty(self.tile, len(everyones_texts))
        own_texts = everyones_texts[self.first : self.first + len(images)]
        self.positives = (self.scaled * own_texts).sum(1)

    def slices(self) -> Iterator[slice]:
        for start in range(0, len(self.scaled), self.tile):
            yield slice(start, min(start + self.tile, len(self.scaled)))

    def logits(self, rows: slice) -> Tensor:
        """Rows of S. The buffer of the previous call is overwritten.

        A matrix product rounds a positive otherwise than a dot product does; with one value for it
        everywhere, a pair that is told apart well has a loss of zero and not of the rounding of its
        logit."""
        tile = torch.mm(self.scaled[rows], self.texts.T, out=self.buffer[: rows.stop - rows.start])
        self.diagonal(tile, rows).copy_(self.positives[rows])
        return tile

    def diagonal(self, tile: Tensor, rows: slice) -> Tensor:
        """The positives' places in a tile, as a view."""
        return tile.diagonal(self.first + rows.start)


class _InfoNce(torch.autograd.Function):
    """With P the softmax over rows plus the softmax over columns of S, dS = (P - 2 targets) / 2
    pairs.

    Log-sum-exps are kept relative to the positive of their row or column. That is the pair's loss,
    never negative, and rounding has no large logit to round."""

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
        texts = peers.all_gather(texts)
        rows = _Rows(images, texts, scale, tile, peers)
        positives = peers.all_gather(rows.positives)
        by_image = torch.empty_like(rows.positives)
        by_text = torch.full_like(positives, -torch.inf)
        shared = []
        for part in rows.slices():
            by_image[part], of_tile, one_exponential = _log_sums(rows, part, positives)
            torch.logaddexp(by_text, of_tile, out=by_text)
            shared.append(one_exponential)
        largest = peers.max(by_text)
        by_text = largest + peers.sum((by_text - largest).exp_()).log_()

        ctx.save_for_backward(images, texts, scale, positives, by_image, by_text)
        ctx.constants = label_smoothing, tile, peers, shared
        own = by_text[rows.first : rows.first + len(images)]
        smoothing = rows.positives.mean() - rows.scaled.mean(0) @ texts.mean(0)
        return (by_image.mean() + own.mean()) / 2 + label_smoothing * smoothing

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, texts, scale, positives, by_image, by_text = ctx.saved_tensors
        label_smoothing, tile, peers, shared = ctx.constants
        with torch.autocast(images.device.type, enabled=False):
            rows = _Rows(images, texts, scale, tile, peers)
            sums = _Gradients(rows, ctx.needs_input_grad)
            spare = torch.empty_like(rows.buffer)
            for part, one_exponential in zip(rows.slices(), shared, strict=True):
                softmaxes = _softmaxes if one_exponential else _softmaxes_apart
                d_logits = softmaxes(
                    rows, part, positives, by_image[part], by_text, spare[: part.stop - part.start]
                )
                if label_smoothing:
                    d_logits -= 2 * label_smoothing / len(texts)
                rows.diagonal(d_logits, part).sub_(2 * (1 - label_smoothing))
                sums.add(d_logits, part)
            d_images, d_texts, d_scale = sums.finish(
                images, scale, gradients[0] / (2 * len(images)), peers
            )
        return d_images, d_texts, d_scale, None, None, None


def _log_sums(rows: _Rows, part: slice, positives: Tensor) -> tuple[Tensor, Tensor, bool]:
    """log(sum of exp) over each row and each column of a tile, relative to its positive.

    One exponential, E = exp(S - the row's positive), serves both: a column weighs its rows by
    exp(positive - top). What leaves float's range by that may vanish where it is small against the
    column's own positive, or its sum. Otherwise (logits that differ by 71 and more, in float32) the
    tile is done again, with two; False tells so."""
    tile, own = rows.logits(part), rows.positives[part]
    top = own.max()
    tile.sub_(own[:, None]).exp_()
    by_image = tile.sum(1).log_()
    # Column sums over a few rows at a time: one running sum over a whole tile would round a
    # thousand times.
    weights = (own - top).exp_()
    few = [
        torch.mv(some.T, weight)
        for some, weight in zip(tile.split(64), weights.split(64), strict=True)
    ]
    by_text = torch.stack(few).sum(0).log_() + (top - positives)
    lost = top - positives - by_text.clamp(min=0)
    limits = torch.finfo(tile.dtype)
    if torch.stack([top - own.min(), by_image.max(), lost.max()]).max() < math.log(
        limits.eps / limits.tiny
    ):
        return by_image, by_text, True
    tile = rows.logits(part)
    return tile.logsumexp(1) - own, tile.logsumexp(0) - positives, False


def _softmaxes(
    rows: _Rows, part: slice, positives: Tensor, by_image: Tensor, by_text: Tensor, spare: Tensor
) -> Tensor:
    """Softmax over rows plus softmax over columns of a tile, with the one exponential of
    `_log_sums`."""
    tile, own = rows.logits(part), rows.positives[part]
    top = own.max()
    of_columns = (top - positives - by_text).exp_()
    torch.addr(
        (-by_image).exp_()[:, None].expand_as(spare), (own - top).exp_(), of_columns, out=spare
    )
    return tile.sub_(own[:, None]).exp_().mul_(spare)


def _softmaxes_apart(
    rows: _Rows, part: slice, positives: Tensor, by_image: Tensor, by_text: Tensor, spare: Tensor
) -> Tensor:
    """The same with two exponentials, whatever the logits."""
    tile, own = rows.logits(part), rows.positives[part]
    torch.sub(tile, positives, out=spare).sub_(by_text).exp_()
    return tile.sub_(own[:, None]).sub_(by_image[:, None]).exp_().add_(spare)


class _Sigmoid(torch.autograd.Function):
    """With the positives' sign flipped in S, the loss is the sum of softplus(S), and dS =
    sigmoid(S) flipped back."""

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
        texts = peers.all_gather(texts)
        rows = _Rows(images, texts, scale, tile, peers)
        sums = _Gradients(rows, ctx.needs_input_grad)
        total, d_bias = torch.zeros_like(scale.sum()), torch.zeros_like(bias)
        for part in rows.slices():
            logits = rows.logits(part).add_(bias)
            rows.diagonal(logits, part).neg_()
            # Beyond the threshold softplus(x) is x: at 40, not at torch's 20, that is exact in
            # float64, too.
            total += F.softplus(logits, threshold=40).sum()
            if graph:
                d_logits = logits.sigmoid_()
                rows.diagonal(d_logits, part).neg_()
                sums.add(d_logits, part)
                d_bias += d_logits.sum()
        if graph:
            mean = torch.ones_like(total) / len(images)
            ctx.gradients = *sums.finish(images, scale, mean, peers), d_bias * mean
        return total / len(images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        d_images, d_texts, d_scale, d_bias = (
            None if each is None else each * gradients[0] for each in ctx.gradients
        )
        return d_images, d_texts, d_scale, d_bias, None, None, None


class _Gradients:
    """From dS, tile by tile, to the gradients of what S is made of: of those that are `wanted`, in
    forward's order."""

    def __init__(self, rows: _Rows, wanted: Sequence[bool]):
        self.rows = rows
        for_images, for_texts, for_scale, *_ = wanted
        self.images = torch.empty_like(rows.scaled) if for_images or for_scale else None
        self.texts = torch.zeros_like(rows.texts) if for_texts else None

    def add(self, d_logits: Tensor, part: slice) -> None:
        """Take in the gradient of one tile."""
        if self.images is not None:
            torch.mm(d_logits, self.rows.texts, out=self.images[part])
        if self.texts is not None:
            self.texts.addmm_(d_logits.T, self.rows.scaled[part])

    def finish(
        self, images: Tensor, scale: Tensor, factor: Tensor, peers: Peers
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of the local images and texts and of the scale, times `factor`.

        S = scale * images @ texts.T: the scale's gradient is that of the images times the images,
        over the scale."""
        d_images = d_texts = d_scale = None
        if self.images is not None:
            d_scale = (torch.sum(self.images * images) * factor).reshape(scale.shape)
            d_images = self.images.mul_(scale * factor)
        if self.texts is not None:
            d_texts = peers.reduce_scatter(self.texts).mul_(factor)
        return d_images, d_texts, d_scale
