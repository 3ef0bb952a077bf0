"""How far each figure of a result is to be believed, and what other models' figures are compared
by."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from torch import Tensor

from diptych.evaluation.belief import (
    Interval,
    bootstrap_mean,
    bootstrap_mean_per_class,
    bootstrap_means,
    wilson,
)
from diptych.evaluation.outcomes import Outcomes
from diptych.evaluation.retrieval import RetrievalResult
from diptych.evaluation.zero_shot import ZeroShotResult

Intervals = dict[str, list[float]]
KS = (1, 5, 10)


def of_classes(
    found: ZeroShotResult, labels: Int[Tensor, " n"], names: Sequence[str]
) -> tuple[Intervals, dict[str, Outcomes]]:
    """Of one class a picture: Wilson's interval of top-1 and top-5, bootstrap ones of their mean
    and of the mean over classes. `names` are the pictures'."""
    outcomes = Outcomes.of(found.ranks.numpy(), names)
    first, fifth = outcomes.right(), outcomes.right(5)
    intervals = {
        "top1": wilson(int(first.sum()), len(first)),
        "top5": wilson(int(fifth.sum()), len(fifth)),
        "mean_top1_top5": bootstrap_mean((first + fifth.astype(float)) / 2),
        "mean_per_class": bootstrap_mean_per_class(first, labels.numpy()),
    }
    return _plain(intervals), {"top1": outcomes}


def of_recalls(
    found: RetrievalResult, owners: Int[Tensor, " captions"], names: Sequence[str]
) -> tuple[Intervals, dict[str, Outcomes]]:
    """Of retrieval: bootstrap intervals over pictures, each with all of its captions."""
    of_captions, of_pictures = owners.numpy(), owners.unique().numpy()
    lines = [f"{names[owner]} {place}" for place, owner in enumerate(owners.tolist())]
    texts = Outcomes.of(found.text_ranks.numpy(), lines, of_captions)
    images = Outcomes.of(
        found.image_ranks.numpy(), [names[int(owner)] for owner in of_pictures], of_pictures
    )
    intervals = {f"text_to_image_r{k}": bootstrap_mean(texts.right(k), of_captions) for k in KS}
    intervals |= {
        f"image_to_text_r{k}": wilson(int(images.right(k).sum()), len(images.ranks)) for k in KS
    }
    both = [(np.mean([one.right(k) for k in KS], axis=0), one.clusters) for one in (texts, images)]
    intervals["mean_recall"] = bootstrap_means(both)
    return _plain(intervals), {"text_to_image_r1": texts, "image_to_text_r1": images}


def of_choices(
    right: Sequence[bool], names: Sequence[str]
) -> tuple[Intervals, dict[str, Outcomes]]:
    """Of choices between two captions."""
    outcomes = Outcomes.of(1 - np.array(right, dtype=int), names)
    return _plain({"choice": wilson(sum(right), len(right))}), {"choice": outcomes}


def _plain(intervals: dict[str, Interval]) -> Intervals:
    return {name: [found.low, found.high] for name, found in intervals.items()}
