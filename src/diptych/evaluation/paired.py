"""Paired tests of two models on the same samples: which differences are real."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from diptych.errors import DataError
from diptych.evaluation.intervals import Interval, bootstrap_mean, paired_difference
from diptych.evaluation.per_sample import PerSample

_FLIPS = 100_000
"""Random signs of all clusters; the smallest p that they can give is one in so many."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Of the same n samples; shares in [0, 1]."""

    n: int
    first: float
    """share that the first model has right"""
    second: float
    difference: Interval
    """second - first; Agresti and Min's interval, or a bootstrap one where samples share
    clusters"""
    only_first: int
    """samples that only the first has right"""
    only_second: int
    p_value: float
    """of so large a difference if the models were equally good"""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One set among several."""

    name: str
    paired: Paired
    p_value: float
    """after Holm's correction for the number of sets"""
    real: bool
    """below the level"""

    def __str__(self) -> str:
        change = self.paired.difference
        words = ("better" if change.value > 0 else "worse") if self.real else "no real difference"
        return (
            f"{self.name}: {words}, {100 * change.value:+.2f} points "
            f"[{100 * change.low:+.2f}, {100 * change.high:+.2f}], p = {self.p_value:.2g}"
        )


def paired_test(first: PerSample, second: PerSample, k: int = 1, *, seed: int = 0) -> Paired:
    """Compare the correct predictions (among the first k) of two models.

    The test is McNemar's exact one (1947): of the samples that one model alone has right, half
    should be each one's. Samples that share a cluster aren't independent; then each cluster's
    difference gets a random sign, 100,000 times. Raises DataError if the samples aren't the same.

    >>> import numpy as np
    >>> from diptych.evaluation import PerSample, paired_test
    >>> names = [f"{i}.jpg" for i in range(40)]
    >>> ranks = [(np.arange(40) >= correct).astype(int) for correct in (20, 30)]
    >>> found = paired_test(*(PerSample.of(each, names) for each in ranks))
    >>> found.difference.value, found.only_first, found.only_second, round(found.p_value, 5)
    (0.25, 0, 10, 0.00195)
    """
    if first.names_sha256 != second.names_sha256 or len(first.ranks) != len(second.ranks):
        raise DataError(
            f"the per-sample results are of different samples ({len(first.ranks)} and "
            f"{len(second.ranks)}); evaluate both models on the same set, in the same order"
        )
    one, other = first.correct(k), second.correct(k)
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    change = other.astype(float) - one.astype(float)
    places = np.unique(first.clusters, return_inverse=True)[1]
    independent = int(places.max()) + 1 == len(places)
    return Paired(
        n=len(one),
        first=float(one.mean()),
        second=float(other.mean()),
        difference=paired_difference(only_first, only_second, len(one))
        if independent
        else _of_clusters(change, places, seed),
        only_first=only_first,
        only_second=only_second,
        p_value=_mcnemar(only_first, only_second)
        if independent
        else _sign_flips(change, places, seed),
    )


def verdicts(pairs: Mapping[str, Paired], level: float = 0.05) -> list[Verdict]:
    """Which differences over many sets are real: Holm's correction (1979) keeps the chance that any
    of them is called so by accident below `level`. In the order of `pairs`.

    >>> from diptych.evaluation import Interval, Paired, verdicts
    >>> paired = dict(n=9, first=0.5, second=0.6, difference=Interval(value=0.1, low=0.0, high=0.2))
    >>> paired |= dict(only_first=0, only_second=1)
    >>> pairs = {"cars": Paired(**paired, p_value=0.02), "pets": Paired(**paired, p_value=0.04)}
    >>> [str(verdict) for verdict in verdicts(pairs)][1]
    'pets: better, +10.00 points [+0.00, +20.00], p = 0.04'
    """
    adjusted = holm({name: pair.p_value for name, pair in pairs.items()})
    return [
        Verdict(name=name, paired=paired, p_value=adjusted[name], real=adjusted[name] < level)
        for name, paired in pairs.items()
    ]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction (1979) for the number of tests, in the order of `p_values`.

        adjusted p of the i-th smallest of m = max_{j <= i} min(1, (m - j + 1) p_j)

    >>> from diptych.evaluation import holm
    >>> holm({"a": 0.04, "b": 0.01, "c": 0.03})
    {'a': 0.06, 'b': 0.03, 'c': 0.06}
    """
    # From the smallest p: the first has to hold against all m tests, the next against m - 1 that
    # are left, and so on; once one fails, none after it can hold, hence the running maximum.
    adjusted, largest = dict[str, float](), 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _mcnemar(only_first: int, only_second: int) -> float:
    """Samples on which both are right or both are wrong say nothing about which is better; of the
    others each is a fair coin if they are equally good."""
    from scipy.stats import binomtest

    differing = only_first + only_second
    return float(binomtest(only_first, differing).pvalue) if differing else 1.0


def _of_clusters(change: np.ndarray, places: Int[np.ndarray, " n"], seed: int) -> Interval:
    sums = np.bincount(places, weights=change)
    if np.ptp(sums / np.bincount(places)):
        return bootstrap_mean(change, places, seed=seed)
    # All clusters agree, so that the bootstrap has no spread: each of them counts as one sample.
    better, worse = int((sums > 0).sum()), int((sums < 0).sum())
    found = paired_difference(worse, better, len(sums))
    return replace(found, value=float(change.mean()))


def _sign_flips(change: np.ndarray, places: Int[np.ndarray, " n"], seed: int) -> float:
    """Clusters with equal differences are flipped together: how many become negative is
    binomial."""
    # If the models were equally good, each cluster's sum might as well have the other sign.
    sums = np.rint(np.bincount(places, weights=change)).astype(int)
    sizes, often = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    flipped = np.random.default_rng(seed).binomial(often, 0.5, (_FLIPS, len(often)))
    totals = ((2 * flipped - often) * sizes).sum(1)
    # The signs that were observed are one of the possible ones: p is never 0.
    return float((1 + (np.abs(totals) >= abs(sums.sum())).sum()) / (1 + _FLIPS))
