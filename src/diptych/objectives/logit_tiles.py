"""The logit matrix S = scale * images @ texts.T in tiles, for the contrastive losses.

A whole S of the global batch costs memory as the batch squared: 16 GiB in float32 at 65,536 pairs.
`info_nce` and `sigmoid_loss` need of it a few sums, and its gradient only multiplied by images or
texts; so a few rows of S are made at a time, used, and overwritten.

Across processes every process has the rows of S that belong to its own images, so only texts
travel: width numbers a pair, where images and texts would be twice that and logits the batch times
that. Its loss is the mean over its own pairs. The mean over processes is the loss of the global
batch, and gradients that are averaged over processes (as DDP does) are the gradients of the global
batch: a process returns `size` times its features' share of them.

Logits are float32 (float64 for float64 features), whatever the autocast and whatever the features
come in: in bfloat16 a logit of 100 may be off by a quarter.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.distributed import Peers

Scalar = Float[Tensor, ""] | Float[Tensor, "1"]


def logit_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All in float64 if one is, else in float32."""
    double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return tuple(tensor.to(torch.float64 if double else torch.float32) for tensor in tensors)


class LogitTiles:
    """This process's rows of S, a tile at a time, always in the same buffer.

    `positives`: the logits of the pairs that belong together, S's diagonal, of the own rows.
    """

    def __init__(
        self, images: Tensor, everyones_texts: Tensor, scale: Tensor, tile: int, peers: Peers
    ):
        # Scaled once here, pairs x width products, rather than pairs x pairs times in the tiles.
        self.scaled = images * scale
        self.texts = everyones_texts
        # Rows are counted from 0 on every process; their own texts stand from here in everybody's.
        self.first = peers.rank * len(images)
        self.tile = min(tile, len(images))
        self.buffer = images.new_empty(self.tile, len(everyones_texts))
        own_texts = everyones_texts[self.first : self.first + len(images)]
        self.positives = (self.scaled * own_texts).sum(1)

    def slices(self) -> Iterator[slice]:
        """The rows of each tile, in order."""
        for start in range(0, len(self.scaled), self.tile):
            yield slice(start, min(start + self.tile, len(self.scaled)))

    def logits(self, rows: slice) -> Tensor:
        """Rows of S. The buffer of the previous call is overwritten."""
        tile = torch.mm(self.scaled[rows], self.texts.T, out=self.buffer[: rows.stop - rows.start])
        # A matrix product rounds a positive otherwise than the dot product in `positives` does.
        # With one value for it everywhere, a pair that stands clear of the others has a loss of
        # zero, not of the rounding of its logit.
        self.diagonal(tile, rows).copy_(self.positives[rows])
        return tile

    def diagonal(self, tile: Tensor, rows: slice) -> Tensor:
        """The positives' places in a tile, as a view."""
        return tile.diagonal(self.first + rows.start)


class LogitGradients:
    """From dS, tile by tile, to the gradients of what S is made of: of those that are `wanted`, in
    forward's order.

    With S = scale * images @ texts.T:

        d_images = scale * dS @ texts     d_texts = dS.T @ (scale * images)
        d_scale  = sum(dS * (images @ texts.T)) = sum((dS @ texts) * images)
    """

    def __init__(self, rows: LogitTiles, wanted: Sequence[bool]):
        self.rows = rows
        for_images, for_texts, for_scale, *_ = wanted
        # The scale's gradient is made from dS @ texts, too (the last equation).
        self.images = torch.empty_like(rows.scaled) if for_images or for_scale else None
        self.texts = torch.zeros_like(rows.texts) if for_texts else None

    def add(self, d_logits: Tensor, part: slice) -> None:
        """Take in the gradient of one tile."""
        if self.images is not None:
            # Each row of images stands in one tile: written. Each text stands in all: summed.
            torch.mm(d_logits, self.rows.texts, out=self.images[part])
        if self.texts is not None:
            self.texts.addmm_(d_logits.T, self.rows.scaled[part])

    def finish(
        self, images: Tensor, scale: Tensor, factor: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of the local images, of what they say about everybody's texts, and of the
        scale, times `factor`."""
        d_images = d_texts = d_scale = None
        if self.images is not None:
            d_scale = (torch.sum(self.images * images) * factor).reshape(scale.shape)
            d_images = self.images.mul_(scale * factor)
        if self.texts is not None:
            d_texts = self.texts.mul_(factor)
        return d_images, d_texts, d_scale
