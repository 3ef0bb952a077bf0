"""The sections that any run and any evaluation gets, whoever made it."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from markupsafe import Markup

from diptych import datasets
from diptych.config import Run
from diptych.evaluation import Result
from diptych.evaluation.names import model_names
from diptych.reports import plots, sections
from diptych.reports.averages import BETTER, NOTE
from diptych.reports.board import Board, main_metric, place_of_metric
from diptych.reports.chance import chance
from diptych.reports.labels import Line, natural
from diptych.reports.mistakes import mistakes_of
from diptych.reports.sections import Section
from diptych.reports.tables import short_metric, texts

_CLASSES = 30
"""Classes in a table."""


def describe_runs(
    runs: Mapping[str, Run], rows: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Section]:
    """Training runs by their names: their last numbers, their curves, drawn together, and how they
    were configured. `rows` are those of each one's `metrics.jsonl`.

    >>> from diptych import reports
    >>> from diptych.config import Run
    >>> rows = [{"step": 10, "loss": 2.5, "samples_per_second": 80.0}]
    >>> [section.kind for section in reports.describe_runs({"a": Run(steps=10)}, {"a": rows})]
    ['headline', 'charts', 'config']
    >>> runs = {"a": Run(steps=10), "b": Run(steps=10, seed=1)}
    >>> found = reports.describe_runs(runs, {"a": rows, "b": rows})
    >>> [section.kind for section in found], found[2].body["rows"]
    (['table', 'charts', 'table', 'group', 'group'], [['seed', '0', '1']])
    """
    numbers = {name: _last_numbers(rows[name]) for name in runs}
    failed = dict[str, None]()
    for name in runs:
        for row in rows[name]:
            for reason in row.get("evaluation_failed", ()):
                failed[f"{name}: {reason}"] = None
    warned = [sections.remarks("What couldn't be measured", list(failed))] if failed else []
    if len(runs) > 1:
        figures = list(dict.fromkeys(chain.from_iterable(numbers.values())))
        lines = [[name, *(own.get(each, "—") for each in figures)] for name, own in numbers.items()]
        return [
            *warned,
            sections.table("Runs", ("run", *figures), lines, note="At the last step."),
            sections.curves(rows),
            sections.config_differences(runs, "What differs between the runs"),
            *(
                sections.group(f"{name}: configuration", [_configuration(run, "")])
                for name, run in runs.items()
            ),
        ]
    [(name, run)] = runs.items()
    note = f"{name}, recipe {run.recipe}" if run.recipe else name
    return [
        *warned,
        sections.headline(numbers[name], note=note),
        sections.curves(rows),
        _configuration(run, "Configuration"),
    ]


def _configuration(run: Run, title: str) -> Section:
    defaults = Run(steps=run.steps, epochs=run.epochs)
    return sections.config(run, defaults, title=title, note="What differs from the defaults.")


def overview(table: Board, anchors: Mapping[tuple[Line, str], str] | None = None) -> Section:
    """Models by sets, best first; a published figure stands in brackets, with ≠ where chance
    doesn't explain it. `anchors` are where a line and a task are described on the same page.

    >>> from diptych import reports
    >>> from diptych.evaluation import Result
    >>> named = {"data": {"name": "x"}, "model": {"name": "m"}}
    >>> result = Result(task="zero-shot", metrics={"top1": 0.75}, protocol={}, **named)
    >>> reports.overview(reports.board([result])).body["rows"]
    [['m', '', '75.0']]
    """
    head, *rows = texts(table)
    notes = [
        "Per cent. ± is half of the 95 % interval; [low–high] are its ends where ± would leave "
        "the scale. In round brackets: as published, with ≠ where chance doesn't explain it."
    ]
    if any(line.how.startswith(BETTER) for line in table.lines):
        notes.append(NOTE)
    links = dict[tuple[int, int], str]()
    for row, line in enumerate(table.lines):
        for place, column in enumerate(table.columns, 2):
            anchor = (anchors or {}).get((line, column.task), "")
            if anchor and (line, column) in table.cells:
                links[row, place] = f"#{anchor}"
    notes += [lacking(table), replaced(table)]
    note = " ".join(filter(None, notes))
    return sections.table("Models and sets", head, rows, note, words=("resize",), links=links)


def progress(table: Board, results: Sequence[Result]) -> Section | None:
    """How the figures that sets are known by change over the checkpoints of a run, each set a
    chart, with what chance gives; None where no run has two."""
    found = [result for result in results if _run_of(result)]
    runs = model_names(_run_of(result) for result in found)
    points = dict[str, dict[str, dict[int, float]]]()
    guesses = dict[str, float]()
    for result in sorted(found, key=lambda result: result.date):
        task, metric = table.labels.task(result), main_metric(result)
        chart = f"{task}: {short_metric(metric)}"
        line = ", ".join(filter(None, (runs[_run_of(result)], table.labels.line(result).how)))
        step = int(result.model["provenance"]["step"])
        points.setdefault(chart, {}).setdefault(line, {})[step] = 100 * result.metrics[metric]
        if (guess := chance(result).get(metric)) is not None:
            guesses[chart] = 100 * guess
    charts = list[Markup]()
    for chart, lines in sorted(points.items(), key=lambda item: natural(item[0])):
        series = {name: sorted(lines[name].items()) for name in sorted(lines, key=natural)}
        steps = [step for line in series.values() for step, _ in line]
        if max(map(len, series.values())) < 2:
            continue
        guides = dict[str, list[tuple[int, float]]]()
        if chart in guesses:
            guides["chance"] = [(min(steps), guesses[chart]), (max(steps), guesses[chart])]
        charts.append(plots.lines(series, x="step", y=f"{chart} (%)", guides=guides))
    if not charts:
        return None
    return Section(kind="charts", title="Over the checkpoints", body=charts)


def _run_of(result: Result) -> str:
    """Where the run lies that a checkpoint belongs to; empty for other models."""
    provenance = result.model.get("provenance") or {}
    run, name = str(provenance.get("run") or ""), str(result.model.get("name", ""))
    if not run or not isinstance(provenance.get("step"), int):
        return ""
    # The run is recorded as it was called when it trained; the checkpoint lies below it.
    return name[: name.rindex(run) + len(run)] if run in name else run


def replaced(table: Board) -> str:
    """Which results don't count, because newer ones do; empty if all count."""
    if not table.replaced:
        return ""
    which = "; ".join(f"{line} on {task}" for line, task in table.replaced)
    return f"Several results with other figures, of which the newest counts: {which}."


def lacking(table: Board) -> str:
    """What a reader might take for whole and isn't: groups without a mean, of which a line has all
    but a few sets, and sets of another size; empty if there are none."""
    nearly = dict[str, str]()
    for line in table.lines:
        for name, missing in table.missing(line).items():
            if 4 * len(missing) <= len(datasets.GROUPS[name.rpartition("/")[2]]):
                nearly.setdefault(name, f"No mean of {name} without {', '.join(missing)}.")
    partial = any(cell.partial for cell in table.cells.values())
    notes = [*nearly.values(), *(["* Another number of samples than was published."] * partial)]
    return " ".join(notes)


def describe_result(result: Result) -> list[Section]:
    """An evaluation: what its reader must know, its figures beside what guessing gives, its
    confusion matrix, its classes from the hardest to the easiest, its most confident mistakes,
    whether its confidence is calibrated, and how it was measured.

    >>> from diptych import reports
    >>> from diptych.evaluation import Result
    >>> measured = {"metrics": {"top1": 0.75}, "data": {"used": 4}}
    >>> result = Result(task="zero-shot", protocol={}, model={}, **measured)
    >>> figures, how = reports.describe_result(result)
    >>> figures.body["rows"], how.body["sections"][0].body["rows"][0]
    ([['top1', '75.0%', '—', '—']], ['data.used', '4'])
    """
    how = {
        "data": result.data,
        "model": result.model,
        "protocol": result.protocol,
        "versions": result.versions,
    }
    found = [sections.remarks("Remarks", remarks_of(result))] if remarks_of(result) else []
    found.append(_figures(result))
    names = result.class_names or [str(index) for index in range(len(result.confusion))]
    if result.confusion:
        found.append(sections.confusion(result.confusion, names))
    if result.per_class and result.confusion:
        found.append(_classes(result, names))
    if result.mistakes:
        found += mistakes_of(result)
    if result.calibration:
        found.append(_reliability(result))
    rows = [*_leaves(how), ("key", result.key), ("date", result.date)]
    return [*found, sections.group("How it was measured", [sections.facts("", rows)])]


def remarks_of(result: Result) -> list[str]:
    """What a reader of the figures has to know: remarks on the data, and samples left out."""
    said = [str(each) for each in result.data.get("remarks") or ()]
    bad, all_of_them = result.data.get("unusable", 0), result.data.get("samples")
    if bad:
        said.append(f"{bad:,} of {all_of_them:,} samples are bad, and were left out.")
    return said


def headline_of(result: Result) -> str:
    """The figure that the set is known by, for the line that unfolds a result."""
    metric = main_metric(result)
    interval = result.intervals.get(metric)
    ends = f" [{100 * interval[0]:.1f}–{100 * interval[1]:.1f}]" if interval else ""
    return f"{result.task} {short_metric(metric)} {result.metrics[metric]:.1%}{ends}"


def _figures(result: Result) -> Section:
    guesses, rows = chance(result), list[tuple[str, str, str, str]]()
    for name in sorted(result.metrics, key=place_of_metric):
        # Of five classes or fewer the right one is always among the first five.
        if name == "top5" and 0 < len(result.class_names) <= 5:
            continue
        interval, guess = result.intervals.get(name), guesses.get(name)
        ends = f"{interval[0]:.1%} to {interval[1]:.1%}" if interval else "—"
        guessed = "—" if guess is None else f"{guess:.1%}"
        rows.append((short_metric(name), f"{result.metrics[name]:.1%}", ends, guessed))
    return sections.table("", ("measure", "value", "95 % interval", "by chance"), rows)


def _classes(result: Result, names: Sequence[str]) -> Section:
    """What each class is mostly taken for, the hardest first; of equally hard ones those with the
    most pictures and the most frequent mistake, which show it best."""
    rows = list[tuple[float, int, int, int, str]]()
    for label, (share, counts) in enumerate(zip(result.per_class, result.confusion)):
        if share is None:
            continue
        mistakes = [
            (-count, other) for other, count in enumerate(counts) if other != label and count
        ]
        often = [f"{names[other]} {-count}" for count, other in sorted(mistakes)[:3]]
        worst = min(mistakes, default=(0, 0))[0]
        rows.append((share, -sum(counts), worst, label, ", ".join(often) or "—"))
    shown = sorted(rows)[:_CLASSES]
    notes = list[str]()
    if len(rows) > _CLASSES:
        notes.append(f"The {_CLASSES} hardest of {len(rows)}.")
    if len(rows) > 1 and shown[-1][0] == 0:
        none = sum(share == 0 for share, *_ in rows)
        notes.append(f"{none} have none right; those with most pictures stand first.")
    columns = ("class", "right", "pictures", "mostly taken for")
    lines = [(names[label], f"{share:.1%}", -n, often) for share, n, _, label, often in shown]
    return sections.table("Classes", columns, lines, " ".join(notes), words=(columns[-1],))


def _reliability(result: Result) -> Section:
    bins = zip(result.calibration["confidence"], result.calibration["accuracy"])
    points = [
        (100 * confidence, 100 * right) for confidence, right in bins if confidence is not None
    ]
    chart = plots.lines(
        {"measured": points},
        x="confidence (%)",
        y="right answers (%)",
        limits=(0.0, 100.0),
        guides={"as sure as right": [(0.0, 0.0), (100.0, 100.0)]},
    )
    error = (
        f"Expected calibration error: {result.calibration['error']:.1%} (15 bins, the "
        "model's own temperature)."
    )
    return Section(kind="charts", title="Reliability", note=error, body=[chart])


def _last_numbers(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    numbers: dict[str, str] = {}
    for row in rows:
        for name, value in row.get("evaluation", {}).items():
            numbers[f"zero-shot {name}"] = f"{value:.1%}"
        for name, said in (("loss", "loss"), ("val/loss", "held-out loss")):
            if name in row:
                numbers[said] = f"{row[name]:.3f}"
        if "val/mean_recall" in row:
            numbers["held-out mean recall"] = f"{row['val/mean_recall']:.1%}"
        if "samples_per_second" in row:
            numbers["pairs per second"] = f"{row['samples_per_second']:,.0f}"
        numbers["steps"] = f"{row['step']:,}"
    return numbers


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
