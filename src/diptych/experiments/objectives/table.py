"""The table of the objectives benchmark: means over seeds with confidence intervals."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from diptych.experiments.objectives.runs import Score

COLUMNS = ("objective", "zero-shot", "linear probe", "retrieval", "s/step", "peak memory")


class SeedInterval(NamedTuple):
    """A mean over seeds and the radius of its confidence interval (95 %); None with one seed."""

    mean: float
    radius: float | None

    def percent(self) -> str:
        """Such as `73.4 ± 0.9 %`."""
        around = "" if self.radius is None else f" ± {100 * self.radius:.1f}"
        return f"{100 * self.mean:.1f}{around} %"


def interval(values: Sequence[float]) -> SeedInterval:
    """Student's t confidence interval of a mean; seeds are few, so not the normal's.

    >>> from diptych.experiments.objectives.table import interval
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


def rows(scores: Sequence[Score]) -> list[list[str]]:
    """A line an objective, in the order in which they came."""
    lines = list[list[str]]()
    for name in dict.fromkeys(score.objective for score in scores):
        own = [score for score in scores if score.objective == name]
        recalls = [score.retrieval for score in own if score.retrieval is not None]
        lines.append(
            [
                name,
                interval([score.zero_shot for score in own]).percent(),
                interval([score.probe for score in own]).percent(),
                interval(recalls).percent() if recalls else "—",
                f"{statistics.median(score.seconds for score in own):.3g}",
                f"{max(score.memory for score in own):,.0f} MB",
            ]
        )
    return lines
