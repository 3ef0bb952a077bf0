"""The page of the objectives benchmark."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from diptych import reports
from diptych.experiments.objectives import table
from diptych.experiments.objectives.config import ObjectivesConfig
from diptych.experiments.objectives.runs import Score
from diptych.experiments.objectives.setting import Setting, run_folder
from diptych.reports import Section, plots
from diptych.training import read_metrics

_LIMITS = (
    "Every objective had the same towers, pairs, batch, number of steps, learning rate and seeds, "
    "and none was tuned: the table says how they do as they are, at this size. An objective that "
    "pays at fifteen million pairs may not pay here, and this page doesn't say what happens there.",
    "A step of SLIP, DeCLIP or DeFILIP costs two to four times one of CLIP; the time stands beside "
    "the accuracy.",
    "An interval is a t-interval of 95 % over the seeds. Where intervals overlap, the difference "
    "may be luck.",
)


def write(
    out: Path, shared: Setting, config: ObjectivesConfig, steps: int, scores: Sequence[Score]
) -> Path:
    """Write the page and return where it is."""
    run = shared.run
    note = f"{steps:,} steps of {run.batch_size} pairs, {config.seeds} seeds; data: {config.data}."
    return reports.write(
        out,
        "Objectives, side by side",
        [
            reports.table("What each came to", table.COLUMNS, table.rows(scores), note=note),
            _curves(Path(config.out) / "runs", scores),
            reports.prose("How to read it", _LIMITS),
            reports.config(run, title="What everyone shared"),
            reports.environment(),
        ],
        subtitle="Trained from nothing by diptych benchmark objectives",
    )


def _curves(runs: Path, scores: Sequence[Score]) -> Section:
    """Zero-shot accuracy on the way, the mean of the seeds, over steps and over time."""
    by_step: dict[str, list[tuple[float, float]]] = {}
    by_time: dict[str, list[tuple[float, float]]] = {}
    for name in dict.fromkeys(score.objective for score in scores):
        own = [score for score in scores if score.objective == name]
        seconds = statistics.median(score.seconds for score in own)
        by_step[name] = _accuracies(runs, own)
        by_time[name] = [(step * seconds / 60, value) for step, value in by_step[name]]
    charts: list[Markup] = [
        plots.lines(by_step, x="step", y="zero-shot accuracy (%)"),
        plots.lines(by_time, x="minutes of training", y="zero-shot top-1 (%)"),
    ]
    note = (
        "Means over the seeds, on the pictures held back. The second chart gives everyone the same "
        "time."
    )
    return Section(kind="charts", title="On the way", note=note, body=charts)


def _accuracies(runs: Path, scores: Sequence[Score]) -> list[tuple[float, float]]:
    """(step, mean accuracy in percent) of one objective's seeds."""
    by_step: dict[int, list[float]] = {}
    for score in scores:
        for row in read_metrics(run_folder(runs, score.objective, score.seed) / "metrics.jsonl"):
            if "evaluation" in row:
                by_step.setdefault(row["step"], []).append(100 * row["evaluation"]["top1"])
    return [(float(step), statistics.fmean(values)) for step, values in sorted(by_step.items())]
