"""The page of a comparison, and its curves."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from diptych import reports
from diptych.config import Run
from diptych.experiments.comparison import table
from diptych.experiments.comparison.compute import Step
from diptych.experiments.comparison.config import CompareConfig
from diptych.experiments.comparison.runs import Score, run_folder
from diptych.reports import Section, plots
from diptych.training import read_metrics

_EQUAL = {
    "samples": "as many pairs seen by everyone, whatever a step costs",
    "flops": "as many floating-point operations for everyone, those of the runs whose weights a "
    "variant starts from counted in",
}
_LIMITS = (
    "Everyone had the same towers, data, batch and seeds, but for what the variants are named for, "
    "and none was tuned: the table says how they do as they are, at this size. What pays at "
    "fifteen million pairs may not pay here, and this page doesn't say what happens there.",
    "Operations are counted over some real steps, by torch's formulas (products, convolutions and "
    "attention; a multiply-add is two); times are of this machine.",
    "An interval is a t-interval of 95 % over the seeds. Variants are compared seed by seed, by a "
    "paired t-test; p is then corrected for the number of variants (Holm).",
    "Figures of seen pairs are of training data: far above those of held-out pairs, they say that "
    "a variant learned by heart, and more data would help; both low, that it learned too little, "
    "and more steps or a larger model would. Losses of different objectives don't compare.",
)


class Point(NamedTuple):
    """A figure on the way, the mean over the seeds."""

    step: int
    samples: int
    pflops: float
    """Spent until then."""
    minutes: float
    value: float


Curves = Mapping[str, Mapping[str, Sequence[Point]]]
"""Figure -> variant -> points."""


def curves(
    variants: Mapping[str, Run],
    costs: Mapping[str, Step],
    scores: Sequence[Score],
    config: CompareConfig,
) -> dict[str, dict[str, list[Point]]]:
    """Of all that the runs wrote down on the way: accuracies and recalls in percent, losses."""
    found = dict[str, dict[str, list[Point]]]()
    for name, run in variants.items():
        own = [score for score in scores if score.variant == name]
        seconds, cost = statistics.median(score.seconds for score in own), costs[name]
        for figure, by_step in _values(config, own).items():
            found.setdefault(figure, {})[name] = [
                Point(
                    step,
                    step * run.batch_size,
                    (cost.before + step * cost.flops) / 1e15,
                    step * seconds / 60,
                    statistics.fmean(values),
                )
                for step, values in sorted(by_step.items())
            ]
    return found


def _values(config: CompareConfig, scores: Sequence[Score]) -> dict[str, dict[int, list[float]]]:
    """Figure -> step -> values of the seeds."""
    found = dict[str, dict[int, list[float]]]()
    for score in scores:
        folder = run_folder(Path(config.out), score.variant, score.seed)
        for row in read_metrics(folder / "metrics.jsonl"):
            shown = {
                f"zero-shot {figure} (%)": 100 * value
                for figure, value in row.get("evaluation", {}).items()
                if figure.rpartition("/")[2] == "top1"
            }
            if "val/mean_recall" in row:
                shown["mean recall (%)"] = 100 * row["val/mean_recall"]
            for figure, named in (("loss", "training loss"), ("val/loss", "held-out loss")):
                if figure in row:
                    shown[named] = row[figure]
            for figure, value in shown.items():
                found.setdefault(figure, {}).setdefault(row["step"], []).append(value)
    return found


def write(
    out: Path,
    title: str,
    variants: Mapping[str, Run],
    costs: Mapping[str, Step],
    scores: Sequence[Score],
    tested: Sequence[table.Tested],
    config: CompareConfig,
) -> Path:
    """Write the page and return where it is."""
    first = next(iter(variants.values()))
    found = curves(variants, costs, scores, config)
    note = f"Equal: {_EQUAL[config.equal]}. {config.seeds} seeds of each variant."
    return reports.write(
        out,
        title,
        [
            reports.table(
                "What each came to", table.columns(scores), table.rows(scores, costs), note=note
            ),
            reports.table(
                "Beside each other, seed by seed",
                table.TESTED,
                table.test_rows(tested),
                note="Differences in points.",
                words=("beside", "figure", "verdict"),
            ),
            _charts(found),
            reports.prose("How to read it", _LIMITS),
            reports.config_differences(variants, title="What they differ in"),
            reports.config(first, title=f"All of {next(iter(variants))}"),
            reports.environment(),
        ],
        subtitle="Trained by diptych benchmark",
    )


def _charts(found: Curves) -> Section:
    axes: dict[str, Callable[[Point], float]] = {
        "pairs seen": lambda point: point.samples,
        "10^15 operations": lambda point: point.pflops,
        "minutes of training": lambda point: point.minutes,
    }
    charts = list[Markup]()
    for figure, lines in found.items():
        for x, place in axes.items():
            drawn = {name: [(place(p), p.value) for p in own] for name, own in lines.items()}
            charts.append(plots.lines(drawn, x=x, y=figure))
    note = "Means over the seeds, on what is held back, but for the training loss."
    return Section(kind="charts", title="On the way", note=note, body=charts)
