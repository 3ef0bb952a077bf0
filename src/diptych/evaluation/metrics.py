"""Metrics beyond accuracy, each with its formula. All lie in [0, 1]; tensors may lie on any
device."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def average_precision(
    scores: Float[Tensor, "n classes"], truth: Bool[Tensor, "n classes"], *, points: int = 0
) -> Float[Tensor, " classes"]:
    """Of each class over all samples, from the highest score to the lowest; not a number for a
    class without positives.

    With precision P(r) and recall R(r) among the r highest scores (equal scores count together, as
    one r):

        points = 0      sum_r (R(r) - R(r - 1)) P(r)    scikit-learn's, and so CLIP_benchmark's
        points = 11     1/11 sum_{t = 0, 0.1, .. 1} max_{r : R(r) >= t} P(r)    VOC 2007's, OpenAI's

    The mean over classes is the mean average precision. (PASCAL VOC leaves out objects that are
    marked as difficult: pass the others.)

    >>> import torch
    >>> from diptych.evaluation import average_precision
    >>> scores, truth = torch.tensor([[0.9], [0.8], [0.7]]), torch.tensor([[True], [False], [True]])
    >>> [round(average_precision(scores, truth, points=points).item(), 4) for points in (0, 11)]
    [0.8333, 0.8485]
    """
    return torch.stack([_average_precision(*column, points) for column in zip(scores.T, truth.T)])


def _average_precision(scores: Tensor, truth: Tensor, points: int) -> Tensor:
    order = scores.argsort(descending=True)
    hits = truth[order].double().cumsum(0)
    ranked = scores[order]
    # Samples with equal scores have no order among each other. Precision and recall are taken only
    # where a run of equal scores ends, so that none can come from a lucky order.
    last = torch.ones_like(truth)
    last[:-1] = ranked[:-1] != ranked[1:]
    hits, ranks = hits[last], torch.arange(1, len(scores) + 1, device=scores.device)[last]
    if not truth.any():
        return torch.tensor(float("nan"), dtype=torch.float64, device=scores.device)
    precision, recall = hits / ranks, hits / hits[-1]
    if not points:
        # The area below the steps: each rise of recall times the precision there.
        return (recall.diff(prepend=recall.new_zeros(1)) * precision).sum()
    # The interpolated precision at a recall is the best at that recall or a higher one: a running
    # maximum from the end.
    best = precision.flip(0).cummax(0).values.flip(0)
    # The first place that reaches each of the recalls 0, 0.1, .. 1. Compared as integers: 0.3 of
    # ten positives is three of them, whatever 3 / 10 rounds to.
    first = torch.stack(
        [(hits * (points - 1) >= t * hits[-1]).int().argmax() for t in range(points)]
    )
    return best[first].mean()


def roc_auc(scores: Float[Tensor, " n"], truth: Bool[Tensor, " n"]) -> float:
    """The share of (positive, negative) pairs in which the positive has the higher score; half of a
    tie counts.

    With two classes the score is that of the positive class less the other's. Not a number if one
    kind is missing.

    >>> import torch
    >>> from diptych.evaluation import roc_auc
    >>> roc_auc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([False, True, False, True]))
    0.875
    """
    # By ranks, not by pairs (Mann & Whitney 1947): of all pairs that a positive takes part in, it
    # wins as many as its rank among all says, less those against other positives.
    places, counts = scores.unique(return_inverse=True, return_counts=True)[1:]
    # Ranks count from 1; equal scores share the mean of theirs, which makes a tie half a win.
    middle = counts.cumsum(0) - (counts - 1) / 2
    ranks = middle.double()[places]
    positives = int(truth.sum())
    pairs = positives * (len(truth) - positives)
    if not pairs:
        return float("nan")
    # Among themselves the positives have the ranks 1 .. positives, in sum p (p + 1) / 2.
    wins = ranks[truth].sum().item() - positives * (positives + 1) / 2
    return wins / pairs


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Winoground's three scores (Thrush et al. 2022, arXiv:2204.03162); chance is 1/4, 1/4 and 1/6.

    With s[c, i] = <caption c, picture i> of one example's two captions and pictures, caption i
    belonging to picture i:
    """

    text: float
    """mean of [s00 > s10 and s11 > s01]: the right caption for each picture"""
    image: float
    """mean of [s00 > s01 and s11 > s10]: the right picture for each caption"""
    group: float
    """mean of [both]"""


def choices(scores: Float[Tensor, "n 2 2"]) -> Choices:
    """`scores[n, c, i]` of caption c and picture i; ties are wrong.

    >>> import torch
    >>> from diptych.evaluation import choices
    >>> found = choices(torch.tensor([[[3.0, 1.0], [2.0, 4.0]], [[3.0, 2.0], [4.0, 5.0]]]))
    >>> found.text, found.image, found.group
    (0.5, 1.0, 0.5)
    """
    (s00, s01), (s10, s11) = scores[:, 0].T, scores[:, 1].T
    text, image = (s00 > s10) & (s11 > s01), (s00 > s01) & (s11 > s10)
    text_score, image_score, group = (
        right.double().mean().item() for right in (text, image, text & image)
    )
    return Choices(text=text_score, image=image_score, group=group)


def caption_choice(right: Float[Tensor, " n"], wrong: Float[Tensor, " n"]) -> float:
    """The share of pictures nearer to their caption than to its hard negative (SugarCrepe, Hsieh et
    al. 2023, arXiv:2306.14610); ties are wrong, chance is 1/2.

    >>> import torch
    >>> from diptych.evaluation import caption_choice
    >>> caption_choice(torch.tensor([0.3, 0.2]), torch.tensor([0.1, 0.2]))
    0.5
    """
    return (right > wrong).double().mean().item()


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well confidence foretells being correct, in bins of equal width (Guo et al. 2017,
    arXiv:1706.04599).

    error = sum_b counts_b / n |accuracy_b - confidence_b|
    """

    error: float
    """expected calibration error"""
    counts: Int[Tensor, " bins"]
    accuracy: Float[Tensor, " bins"]
    """share of correct predictions; not a number for an empty bin"""
    confidence: Float[Tensor, " bins"]
    """mean probability of the prediction; not a number for an empty bin"""


def calibration(
    confidence: Float[Tensor, " n"], right: Bool[Tensor, " n"], bins: int = 15
) -> Calibration:
    """`confidence` is the probability of the prediction: the largest of a softmax at the model's
    own scale.

    >>> import torch
    >>> from diptych.evaluation import calibration
    >>> confidence, correct = [0.75, 0.75, 1.0, 0.25], [True, False, True, False]
    >>> calibration(torch.tensor(confidence), torch.tensor(correct), bins=4).error
    0.1875
    """
    confidence = confidence.double()
    # Bins are closed above, (0, 1/15], (1/15, 2/15] and so on, as Guo et al. have them.
    places = (confidence * bins).ceil().long().clamp(1, bins) - 1
    counts = places.bincount(minlength=bins)
    hits = places.bincount(weights=right.double(), minlength=bins) / counts
    means = places.bincount(weights=confidence, minlength=bins) / counts
    error = ((hits - means).abs() * counts).nansum().item() / len(confidence)
    return Calibration(error=error, counts=counts, accuracy=hits, confidence=means)
