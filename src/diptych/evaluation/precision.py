"""Average precision: how far before the others the pictures of a class stand when all are sorted by its score."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def average_precision(
    scores: Float[Tensor, "images classes"], truth: Bool[Tensor, "images classes"], *, eleven_points: bool = False
) -> Float[Tensor, " classes"]:
    """Of each class, in float64; not a number for a class without pictures. With P(r) the share of right ones among
    those that score at least as high as the picture of rank r, and R(r) the share of the class among them,

        AP   = mean over the pictures of the class of P(r)
        AP11 = mean over t in 0, 0.1 ... 1 of max {P(r) : R(r) >= t}    (VOC 2007: Everingham et al. 2010, §4.2)

    Equal scores stand before the right answer.

    >>> import torch
    >>> from diptych.evaluation.precision import average_precision
    >>> truth = torch.tensor([[True], [False], [True]])
    >>> average_precision(torch.tensor([[0.9], [0.8], [0.7]]), truth).tolist()
    [0.8333333333333333]
    """
    found = []
    for score, right in zip(scores.T.double(), truth.T):
        if not right.any():
            found.append(torch.tensor(torch.nan, dtype=torch.float64))
            continue
        # Stable sorts: first by truth, wrong ones first; then by score.
        order = right.int().argsort(stable=True)
        order = order[score[order].argsort(descending=True, stable=True)]
        hits = right[order].double()
        precision, recall = hits.cumsum(0) / torch.arange(1, len(hits) + 1), hits.cumsum(0) / hits.sum()
        if eleven_points:
            best = [precision[recall >= step / 10 - 1e-9].max() for step in range(11)]
            found.append(torch.stack(best).mean())
        else:
            found.append(precision[hits > 0].mean())
    return torch.stack(found)
