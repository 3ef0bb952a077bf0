"""Retrieval between pictures and their captions, by counting; no pictures x captions matrix is ever
held."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_TILE = 2**24
"""Scores held at a time: 64 MB of float32."""


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
    owners = text_to_image.to(image_vectors.device)
    captions = torch.arange(len(owners), device=owners.device)
    # Pictures without a caption are candidates, but nothing is asked about them.
    captioned, places = owners.unique(return_inverse=True)
    # Captions sorted by their picture, so that a tile's own pairs lie next to each other.
    order = places.argsort(stable=True)
    text_ranks = _ranks(text_vectors, image_vectors, captions, owners)
    image_ranks = _ranks(image_vectors[captioned], text_vectors, places[order], captions[order])
    return RetrievalResult(
        image_to_text={k: (image_ranks < k).double().mean().item() for k in ks},
        text_to_image={k: (text_ranks < k).double().mean().item() for k in ks},
        image_ranks=image_ranks,
        text_ranks=text_ranks,
    )


def _ranks(
    queries: Float[Tensor, "queries width"],
    candidates: Float[Tensor, "candidates width"],
    rows: Int[Tensor, " pairs"],
    columns: Int[Tensor, " pairs"],
) -> Int[Tensor, " queries"]:
    """How many other candidates score at least as high as the best of a query's own, which are
    `rows`, in order, and `columns`."""
    ranks = []
    step = max(1, _TILE // len(candidates))
    for first in range(0, len(queries), step):
        scores = queries[first : first + step].float() @ candidates.float().T
        # `rows` are in order: the pairs of this tile's queries are one stretch of them.
        bounds = torch.tensor([first, first + step], device=rows.device)
        begin, end = torch.searchsorted(rows, bounds).tolist()
        own = (rows[begin:end] - first, columns[begin:end])
        lowest = torch.full_like(scores[:, 0], -torch.inf)
        best = lowest.scatter_reduce_(0, own[0], scores[own], "amax")
        # A query's other own candidates don't stand in the way of its best one.
        scores[own] = -torch.inf
        # Ties count, hence >=. Booleans are summed fastest in 32 bits.
        ranks.append((scores >= best[:, None]).sum(1, dtype=torch.int32).long())
    return torch.cat(ranks).cpu()
