"""Retrieval between pictures and their captions, by counting, both ways in one pass; no pictures x
captions matrix is ever held."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diptych.similarity import (
    FastProducts,
    Products,
    exact_matrix,
    exact_pairs,
    moved_by_half,
    reaching_pairs,
)

_IMAGES, _TEXTS = 1024, 2048
"""Pictures and captions whose scores are held at a time."""
_SHARE = 16
"""Where more than one in so many scores is left open, all in float64 take less time."""


@dataclass(frozen=True, kw_only=True)
class RetrievalResult:
    """Recall at 1, 5 and 10, both ways, in [0, 1]. A picture may own several captions; a caption
    has one picture.

    With scores s[t, i] = <caption t, picture i> and o(t) the picture that caption t was written
    for, the ranks count what stands in the way. Ties stand in the way: a model that maps everything
    to one vector recalls nothing.

        rank of caption t = |{i != o(t) : s[t, i] >= s[t, o(t)]}|
        rank of picture i = |{t : o(t) != i, s[t, i] >= max_{u : o(u) = i} s[u, i]}|

    Text to image: R@k = mean over captions of [rank < k]. Image to text: R@k = mean over the
    pictures that own a caption of [rank < k]: at least one of its captions is among the k nearest.
    """

    image_to_text: dict[int, float]
    """k -> R@k; also called text retrieval (TR)"""
    text_to_image: dict[int, float]
    """k -> R@k; also called image retrieval (IR)"""
    image_ranks: Int[Tensor, " owners"]
    """of the pictures that own a caption, in order"""
    text_ranks: Int[Tensor, " texts"]

    @property
    def mean_recall(self) -> float:
        """The mean of the six recalls (MR)."""
        recalls = [*self.image_to_text.values(), *self.text_to_image.values()]
        return sum(recalls) / len(recalls)


def retrieval(
    image_vectors: Float[Tensor, "images width"],
    text_vectors: Float[Tensor, "texts width"],
    text_to_image: Int[Tensor, " texts"],
    ks: tuple[int, ...] = (1, 5, 10),
) -> RetrievalResult:
    """Exact ranks of unit vectors; `text_to_image[t]` is the row of the picture that caption t
    belongs to.

    >>> import torch
    >>> from diptych.evaluation import retrieval
    >>> result = retrieval(torch.eye(3), torch.eye(3)[[0, 1, 1, 2]], torch.tensor([0, 1, 2, 2]))
    >>> result.text_to_image[1], result.image_to_text[1]
    (0.75, 0.6666666666666666)
    """
    assert len(text_to_image) == len(text_vectors), "every caption has one picture"
    assert all(vectors.isfinite().all() for vectors in (image_vectors, text_vectors)), (
        "a vector is not finite"
    )
    images, texts = image_vectors.float().cpu(), text_vectors.float().cpu()
    owners = text_to_image.cpu()
    own = exact_pairs(texts, torch.arange(len(texts)), images, owners)
    # Nothing reaches the best of a picture without a caption: nothing is asked about it.
    best = torch.full((len(images),), torch.inf)
    best = best.scatter_reduce(0, owners, own, "amax", include_self=False)
    by_image, by_text = _count(images, texts, best, own)
    # A caption's own picture is among those that reach its score. A picture's captions don't stand
    # in the way of the best of them; those that are as good as it are among those that reach it.
    equals = torch.zeros(len(images), dtype=torch.long)
    equals.index_add_(0, owners, (own == best[owners]).long())
    image_ranks = (by_image - equals)[best.isfinite()]
    text_ranks = by_text - 1
    return RetrievalResult(
        image_to_text={k: (image_ranks < k).double().mean().item() for k in ks},
        text_to_image={k: (text_ranks < k).double().mean().item() for k in ks},
        image_ranks=image_ranks,
        text_ranks=text_ranks,
    )


def _count(
    images: Float[Tensor, "images width"],
    texts: Float[Tensor, "texts width"],
    best: Float[Tensor, " images"],
    own: Float[Tensor, " texts"],
) -> tuple[Int[Tensor, " images"], Int[Tensor, " texts"]]:
    """How many captions score at least `best` with each picture, and how many pictures at least
    `own` with each caption."""
    by_image = torch.zeros(len(images), dtype=torch.long)
    by_text = torch.zeros(len(texts), dtype=torch.long)
    longest = float(torch.linalg.vector_norm(texts, dim=1).max())
    moved = float(moved_by_half(texts).max())
    for first in range(0, len(images), _IMAGES):
        rows = slice(first, first + _IMAGES)
        fast = FastProducts(images[rows], longest=longest, moved=moved)
        for start in range(0, len(texts), _TEXTS):
            columns = slice(start, start + _TEXTS)
            tile = _Tile(images[rows], texts[columns], best[rows, None], own[columns])
            for_images, for_texts = tile.counts(fast)
            by_image[rows] += for_images
            by_text[columns] += for_texts
    return by_image, by_text


class _Tile(NamedTuple):
    """Some pictures, some captions, and the scores to be reached."""

    images: Float[Tensor, "images width"]
    texts: Float[Tensor, "texts width"]
    best: Float[Tensor, "images 1"]
    own: Float[Tensor, " texts"]

    def counts(self, fast: FastProducts) -> tuple[Tensor, Tensor]:
        """Of the captions that reach each picture's score, of the pictures that reach each
        caption's; exactly."""
        scores = fast(self.texts)
        of_images = self._reached(scores, fast.error.max(), self.best)
        of_texts = self._reached(scores, fast.error.max(), self.own)
        if of_images is None or of_texts is None:
            exact = exact_matrix(self.images, self.texts)
            of_images, of_texts = exact >= self.best, exact >= self.own
        # Booleans are summed fastest in 32 bits.
        return of_images.sum(1, dtype=torch.int32), of_texts.sum(0, dtype=torch.int32)

    def _reached(
        self, scores: Products, error: Tensor, edges: Tensor
    ) -> Bool[Tensor, "images texts"] | None:
        """Which pairs' exact scores are at least `edges`; None if too many are left open."""
        reached, surely = scores.reach(edges - error), scores.reach(edges + error, above=True)
        left_open = torch.from_numpy(np.flatnonzero(reached != surely))
        if len(left_open) * _SHARE > reached.size:
            return None
        image, text = left_open // len(self.texts), left_open % len(self.texts)
        reached = torch.from_numpy(reached)
        asked = edges.expand(reached.shape)[image, text]
        reached[image, text] = reaching_pairs(self.images, image, self.texts, text, asked)
        return reached
