"""Confidence intervals of scores, and the smallest difference that a dataset can show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

_TILE = 2**22
"""Counts drawn at a time: 32 MB."""
_NO_SPREAD = 1e-12
"""What rounding may leave of it."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score and the interval that holds the truth in 95 of 100 cases, if no other level was asked
    for."""

    value: float
    low: float
    high: float


def wilson(right: int | float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share of independent samples (1927): good for few samples, and
    near 0 and 1.

        (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n),    p = right / n

    >>> from diptych.evaluation import wilson
    >>> interval = wilson(8, 10)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4902, 0.9433)
    """
    from scipy.special import ndtri

    z, p = float(ndtri((1 + level) / 2)), right / n
    # The shares p0 that a test at p0 wouldn't reject: |p - p0| <= z sqrt(p0 (1 - p0) / n), solved
    # for p0. Unlike p ± z sqrt(p (1 - p) / n) it has a width where p is 0 or 1.
    middle, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    scale = 1 + z**2 / n
    return Interval(
        value=p, low=max(0.0, (middle - half) / scale), high=min(1.0, (middle + half) / scale)
    )


def bootstrap_mean(
    values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"],
    clusters: Int[np.ndarray, " n"] | None = None,
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap (Efron 1979) of a mean of shares. Samples of one cluster, say captions
    of one picture, are drawn together: then the mean is sum of sums / sum of counts over the
    clusters that were drawn.

    Only how often each kind of cluster occurs matters, and that is multinomial: no sample is ever
    drawn one by one. Where all clusters have the same mean, samples say nothing of how much it may
    vary; then it is Wilson's interval, each cluster a sample.

    >>> import numpy as np
    >>> from diptych.evaluation import bootstrap_mean
    >>> interval = bootstrap_mean(np.array([True, False] * 200))
    >>> interval.value, round(interval.low, 2), round(interval.high, 2)
    (0.5, 0.45, 0.55)
    """
    own = np.arange(len(values)) if clusters is None else clusters
    return bootstrap_means([(values, own)], level=level, draws=draws, seed=seed)


def bootstrap_means(
    parts: Sequence[tuple[Float[np.ndarray, " _"] | Bool[np.ndarray, " _"], Int[np.ndarray, " _"]]],
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """As `bootstrap_mean`, of the mean of several means over the same clusters: of the recalls in
    both directions, say. Each part has its values and their clusters, and every cluster occurs in
    every part.

    >>> import numpy as np
    >>> from diptych.evaluation import bootstrap_means
    >>> pictures, captions = np.array([0, 1]), np.array([0, 0, 1, 1])
    >>> parts = [(np.array([1.0, 0.0]), pictures), (np.array([1.0, 1.0, 1.0, 0.0]), captions)]
    >>> bootstrap_means(parts).value
    0.625
    """
    # Of each cluster, for each part: the sum of its values, and how many there are.
    columns = []
    for values, clusters in parts:
        places = np.unique(clusters, return_inverse=True)[1]
        columns += [np.bincount(places, weights=values), np.bincount(places)]
    # Clusters with the same sums and counts are of one kind. How often each kind is among n that
    # are drawn with replacement is multinomial, so n draws are one.
    kinds, often = np.unique(np.stack(columns, 1), axis=0, return_counts=True)
    generator, found = np.random.default_rng(seed), np.empty(draws)
    step = max(1, _TILE // len(often))
    for first in range(0, draws, step):
        count = min(step, draws - first)
        drawn = generator.multinomial(often.sum(), often / often.sum(), count)
        totals = drawn @ kinds
        # Even columns are sums, odd ones counts: a mean for each part, and the mean of those.
        found[first : first + step] = (totals[:, ::2] / totals[:, 1::2]).mean(1)
    value = float(np.mean([np.mean(values) for values, _ in parts]))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    if high - low < _NO_SPREAD:
        clusters = int(often.sum())
        return wilson(value * clusters, clusters, level)
    return Interval(value=value, low=float(low), high=float(high))


def mean_of_shares(
    right: Bool[np.ndarray, " n"], groups: Int[np.ndarray, " n"], *, level: float = 0.95
) -> Interval:
    """Of the mean over groups (classes, say) of the share of correct predictions, from Wilson's
    interval [l, u] of each group's share p (MOVER, Zou and Donner 2008; for two groups Newcombe's):

        mean - sqrt(sum (p - l)^2) / groups,    mean + sqrt(sum (u - p)^2) / groups

    It stays within [0, 1], and has a width where every prediction is correct, or none.

    >>> import numpy as np
    >>> from diptych.evaluation import mean_of_shares
    >>> found = mean_of_shares(np.array([True, True, False, True]), np.array([0, 0, 1, 1]))
    >>> found.value, round(found.low, 4), round(found.high, 4)
    (0.75, 0.3637, 0.9527)
    """
    places = np.unique(groups, return_inverse=True)[1]
    counts, hits = np.bincount(places), np.bincount(places, weights=right)
    own = [wilson(hit, count, level) for hit, count in zip(hits.tolist(), counts.tolist())]
    low, value, high = np.array([(each.low, each.value, each.high) for each in own]).T
    mean = float(value.mean())
    return Interval(
        value=mean,
        low=mean - float(np.sqrt(((value - low) ** 2).sum())) / len(own),
        high=mean + float(np.sqrt(((high - value) ** 2).sum())) / len(own),
    )


def paired_difference(
    only_first: int, only_second: int, n: int, *, level: float = 0.95
) -> Interval:
    """Of the difference of two models' accuracies on the same n samples, (only_second -
    only_first) / n; by the counts with half a sample more in each of the four kinds (both correct,
    either one, none): Agresti and Min 2005. It has a width where the models never disagree.

    >>> from diptych.evaluation.intervals import paired_difference
    >>> found = paired_difference(0, 0, 98)
    >>> found.value, round(found.low, 4), round(found.high, 4)
    (0.0, -0.0196, 0.0196)
    """
    from scipy.special import ndtri

    z, total = float(ndtri((1 + level) / 2)), n + 2
    middle = (only_second - only_first) / total
    differing = (only_first + only_second + 1) / total
    half = z * ((differing - middle**2) / total) ** 0.5
    return Interval(
        value=(only_second - only_first) / n,
        low=max(-1.0, middle - half),
        high=min(1.0, middle + half),
    )


def smallest_difference(
    n: int, disagreement: float, level: float = 0.95, power: float = 0.8
) -> float:
    """The smallest difference of two models' accuracies on the same n samples that a
    paired test finds with probability `power`, if exactly one of them is right on a share
    `disagreement` of the samples.

        (z_(1 + level) / 2 + z_power) sqrt(disagreement / n)

    >>> from diptych.evaluation import smallest_difference
    >>> round(100 * smallest_difference(50_000, 0.15), 2)  # points, on ImageNet
    0.49
    """
    from scipy.special import ndtri

    # A difference of means over n pairs has about the variance disagreement / n: each pair differs
    # by -1, 0 or 1. It must lie so many deviations from 0 that chance rarely takes it back.
    return float(ndtri((1 + level) / 2) + ndtri(power)) * (disagreement / n) ** 0.5
