"""The table and the page of `diptych benchmark objectives`."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from diptych import reports
from diptych.cli.benchmark import Benchmark
from diptych.cli.benchmark_runs import Field, Score
from diptych.cli.show import show
from diptych.reports import Section, plots
from diptych.training import read_metrics

COLUMNS = ("objective", "zero-shot", "linear probe", "retrieval", "s/step", "peak memory")
_LIMITS = (
    "Every objective had the same towers, pairs, batch, number of steps, learning rate and seeds, and none was tuned: "
    "the table says how they do as they are, at this size. An objective that pays at fifteen million pairs may not pay "
    "here, and this page doesn't say what happens there.",
    "A step of SLIP, DeCLIP or DeFILIP costs two to four times one of CLIP; the time stands beside the accuracy.",
    "An interval is a t-interval of 95 % over the seeds. Where intervals overlap, the difference may be luck.",
)


class Interval(NamedTuple):
    """A mean over seeds, and how far the truth may lie from it (95 %); None with a single seed."""

    mean: float
    radius: float | None

    def percent(self) -> str:
        """Such as `73.4 ± 0.9 %`."""
        around = "" if self.radius is None else f" ± {100 * self.radius:.1f}"
        return f"{100 * self.mean:.1f}{around} %"


def interval(values: Sequence[float]) -> Interval:
    """Student's t-interval of a mean.

    >>> from diptych.cli.benchmark_report import interval
    >>> interval([0.5, 0.6, 0.7]).percent(), interval([0.5]).percent()
    ('60.0 ± 24.8 %', '50.0 %')
    """
    from scipy.stats import t

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Interval(mean, None)
    return Interval(mean, float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n))


def rows(scores: Sequence[Score]) -> list[list[str]]:
    """A line an objective, in the order in which they came."""
    lines = []
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


def show_table(scores: Sequence[Score]) -> None:
    """On the terminal."""
    from rich.table import Table

    table = Table(*COLUMNS, box=None)
    for line in rows(scores):
        table.add_row(*line)
    show(table)


def write(out: Path, field: Field, options: Benchmark, steps: int, scores: Sequence[Score]) -> Path:
    """Write the page and return where it is."""
    shared = f"{steps:,} steps of {field.run.batch_size} pairs, {options.seeds} seeds"
    return reports.write(
        out,
        "Objectives, side by side",
        [
            reports.table(
                "What each came to", COLUMNS, rows(scores), note=f"{shared}; data: {options.data}."
            ),
            _curves(Path(options.out), scores),
            reports.prose("How to read it", _LIMITS),
            reports.config(field.run, title="What everyone shared"),
            reports.environment(),
        ],
        subtitle="Trained from nothing by diptych benchmark objectives",
    )


def _curves(out: Path, scores: Sequence[Score]) -> Section:
    """Zero-shot accuracy on the way, the mean of the seeds, over steps and over time."""
    by_step: dict[str, list[tuple[float, float]]] = {}
    by_time: dict[str, list[tuple[float, float]]] = {}
    for name in dict.fromkeys(score.objective for score in scores):
        own = [score for score in scores if score.objective == name]
        points: dict[int, list[float]] = {}
        for score in own:
            for row in read_metrics(out / "runs" / f"{name}-{score.seed}" / "metrics.jsonl"):
                if "evaluation" in row:
                    points.setdefault(row["step"], []).append(100 * row["evaluation"]["top1"])
        seconds = statistics.median(score.seconds for score in own)
        by_step[name] = [
            (step, statistics.fmean(values)) for step, values in sorted(points.items())
        ]
        by_time[name] = [(step * seconds / 60, value) for step, value in by_step[name]]
    charts: list[Markup] = [
        plots.lines(by_step, x="step", y="zero-shot accuracy (%)"),
        plots.lines(by_time, x="minutes of training", y="zero-shot top-1 (%)"),
    ]
    note = "Means over the seeds, on the pictures held back. The second chart gives everyone the same time."
    return Section(kind="charts", title="On the way", note=note, body=charts)
