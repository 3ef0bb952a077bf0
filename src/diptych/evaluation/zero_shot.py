"""Zero-shot classification: the class whose text vector is nearest (Radford et al. 2021,
arXiv:2103.00020 §3.1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_TILE = 2**24
"""Scores held at a time: 64 MB of float32."""


@dataclass(frozen=True, kw_only=True)
class ZeroShotResult:
    """How often the nearest class is the right one. All numbers lie in [0, 1].

    With scores s[i, c] = <image i, class c> and the label y[i], the rank of the right class is

        rank[i] = |{c : s[i, c] > s[i, y[i]]}| + |{c < y[i] : s[i, c] = s[i, y[i]]}|

    so that of classes with equal scores (two classes of one name) the first one wins, as it does in
    an argmax.
    """

    top1: float
    """mean_i [rank[i] < 1]"""
    top5: float
    """mean_i [rank[i] < 5]; 1 by definition where there are five classes or fewer"""
    mean_per_class: float
    """mean over the classes that occur of (correct predictions / pictures of the class);
    scikit-learn's balanced accuracy"""
    confusion: Int[Tensor, "classes classes"]
    """confusion[y, p]: pictures of class y that were taken for class p"""
    ranks: Int[Tensor, " images"]
    """Of the right class of each picture"""

    @property
    def counts(self) -> Int[Tensor, " classes"]:
        """Pictures of each class."""
        return self.confusion.sum(1)

    @property
    def per_class(self) -> Float[Tensor, " classes"]:
        """Share of correct predictions of each class; not a number for a class without pictures."""
        return self.confusion.diagonal() / self.counts


def zero_shot(
    image_vectors: Float[Tensor, "images width"],
    labels: Int[Tensor, " images"],
    class_vectors: Float[Tensor, "classes width"],
) -> ZeroShotResult:
    """Classify unit vectors of pictures by unit vectors of classes; the formulas stand in
    `ZeroShotResult`.

    `labels` are indices of classes. Memory: a tile of the scores at a time, in float32.

    >>> import torch
    >>> from diptych.evaluation import zero_shot
    >>> result = zero_shot(torch.eye(3)[[0, 1, 1, 2]], torch.tensor([0, 1, 2, 2]), torch.eye(3))
    >>> result.top1, result.confusion.tolist()
    (0.75, [[1, 0, 0], [0, 1, 0], [0, 1, 1]])
    """
    classes, images = len(class_vectors), len(image_vectors)
    assert len(labels) == images > 0, f"{images} pictures, {len(labels)} labels"
    assert 0 <= int(labels.min()) <= int(labels.max()) < classes, (
        "a label is not the index of a class"
    )
    assert all(vectors.isfinite().all() for vectors in (image_vectors, class_vectors)), (
        "a vector is not finite"
    )
    ranks, predicted = [], []
    for rows in torch.arange(images).split(max(1, _TILE // classes)):
        scores = image_vectors[rows].float() @ class_vectors.float().T
        truth = labels[rows, None].to(scores.device)
        right = scores.gather(1, truth)
        # Of equal scores only earlier classes stand before the right one, as in an argmax.
        earlier = torch.arange(classes, device=scores.device) < truth
        ranks.append(((scores > right) | ((scores == right) & earlier)).sum(1).cpu())
        predicted.append(scores.argmax(1).cpu())
    rank, labels = torch.cat(ranks), labels.cpu()
    # A cell of the matrix by one number, row * classes + column, so that one count fills it.
    cells = torch.bincount(labels * classes + torch.cat(predicted), minlength=classes**2)
    confusion = cells.view(classes, classes)
    per_class = confusion.diagonal().double() / confusion.sum(1)
    return ZeroShotResult(
        top1=(rank < 1).double().mean().item(),
        top5=(rank < 5).double().mean().item(),
        mean_per_class=per_class.nanmean().item(),
        confusion=confusion,
        ranks=rank,
    )
