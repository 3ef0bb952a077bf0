"""The tables of a comparison: means over seeds with confidence intervals, and paired tests."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from diptych.evaluation import holm
from diptych.experiments.comparison.compute import Step
from diptych.experiments.comparison.runs import Score

COSTS = ("pairs seen", "epochs", "train loss", "PFLOPs", "s/step", "peak memory")
"""Columns behind the figures."""
TESTED = ("variant", "beside", "figure", "difference", "p", "p (Holm)", "verdict")
_LEVEL = 0.05


class SeedInterval(NamedTuple):
    """A mean over seeds and the radius of its confidence interval (95 %); None with one seed."""

    mean: float
    radius: float | None

    def percent(self) -> str:
        """Such as `73.4 ± 0.9 %`."""
        around = "" if self.radius is None else f" ± {100 * self.radius:.1f}"
        return f"{100 * self.mean:.1f}{around} %"


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A variant beside another in one figure, seed by seed."""

    variant: str
    reference: str
    figure: str
    difference: SeedInterval
    """variant - reference"""
    p_value: float | None
    """Of so large a mean difference if there were none, by a paired t-test; None with one seed."""
    adjusted: float | None
    """After Holm's correction for the number of variants in this figure."""


def interval(values: Sequence[float]) -> SeedInterval:
    """Student's t confidence interval of a mean; seeds are few, so not the normal's.

    >>> from diptych.experiments.comparison.table import interval
    >>> interval([0.5, 0.6, 0.7]).percent(), interval([0.5]).percent()
    ('60.0 ± 24.8 %', '50.0 %')
    """
    from scipy.stats import t

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return SeedInterval(mean, None)
    # mean ± t(0.975, n - 1) s / sqrt(n), with the deviation s of the sample (divided by n - 1):
    # 2.5 % lie beyond either end.
    return SeedInterval(mean, float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n))


def paired_p(differences: Sequence[float]) -> float | None:
    """Of a paired t-test, two-sided; None with fewer than two pairs.

    >>> from diptych.experiments.comparison.table import paired_p
    >>> round(paired_p([0.01, 0.02, 0.03]), 4)
    0.0742
    """
    from scipy.stats import t

    n = len(differences)
    if n < 2:
        return None
    mean, spread = statistics.fmean(differences), statistics.stdev(differences)
    if spread == 0:  # every seed says the same
        return 1.0 if mean == 0 else 0.0
    # t = mean / (s / sqrt(n)) has n - 1 degrees of freedom.
    return float(2 * t.sf(abs(mean) / (spread / math.sqrt(n)), n - 1))


def figures_of(scores: Sequence[Score]) -> list[str]:
    """The names of all figures, in the order in which they came."""
    names = dict[str, None]()
    for score in scores:
        names |= dict.fromkeys(score.figures)
    return list(names)


def columns(scores: Sequence[Score]) -> tuple[str, ...]:
    """The heads of `rows`."""
    return ("variant", *figures_of(scores), *COSTS)


def rows(scores: Sequence[Score], costs: Mapping[str, Step]) -> list[list[str]]:
    """A line a variant, in the order in which they came."""
    lines = list[list[str]]()
    for name in dict.fromkeys(score.variant for score in scores):
        own = [score for score in scores if score.variant == name]
        line = [name]
        for figure in figures_of(scores):
            values = [score.figures[figure] for score in own if figure in score.figures]
            line.append(interval(values).percent() if values else "—")
        first, cost = own[0], costs[name]
        lines.append(
            [
                *line,
                f"{first.samples:,}",
                f"{first.epochs:.3g}",
                f"{statistics.fmean(score.loss for score in own):.3f}",
                f"{(cost.before + first.steps * cost.flops) / 1e15:.3g}",
                f"{statistics.median(score.seconds for score in own):.3g}",
                f"{max(score.memory for score in own):,.0f} MB",
            ]
        )
    return lines


def tests(scores: Sequence[Score], references: Mapping[str, str]) -> list[Tested]:
    """Each variant beside its reference in every figure that both have, over the seeds of both."""
    found = list[Tested]()
    for figure in figures_of(scores):
        by_run = {(s.variant, s.seed): s.figures[figure] for s in scores if figure in s.figures}
        differences = dict[str, list[float]]()
        for variant, reference in references.items():
            seeds = [seed for name, seed in by_run if name == variant]
            pairs = [(by_run[variant, s], by_run.get((reference, s))) for s in seeds]
            gaps = [one - other for one, other in pairs if other is not None]
            differences |= {variant: gaps} if gaps else {}
        p_values = {name: paired_p(gaps) for name, gaps in differences.items()}
        adjusted = holm({name: p for name, p in p_values.items() if p is not None})
        for variant, gaps in differences.items():
            found.append(
                Tested(
                    variant=variant,
                    reference=references[variant],
                    figure=figure,
                    difference=interval(gaps),
                    p_value=p_values[variant],
                    adjusted=adjusted.get(variant),
                )
            )
    return found


def test_rows(tested: Sequence[Tested]) -> list[list[str]]:
    """As `TESTED` has them; differences in points."""
    return [
        [
            each.variant,
            each.reference,
            each.figure,
            f"{100 * each.difference.mean:+.1f}"
            + ("" if each.difference.radius is None else f" ± {100 * each.difference.radius:.1f}"),
            "—" if each.p_value is None else f"{each.p_value:.2g}",
            "—" if each.adjusted is None else f"{each.adjusted:.2g}",
            _verdict(each),
        ]
        for each in tested
    ]


def _verdict(tested: Tested) -> str:
    if tested.adjusted is None:
        return "one seed tells nothing"
    if tested.adjusted >= _LEVEL:
        return "no real difference"
    return "better" if tested.difference.mean > 0 else "worse"
