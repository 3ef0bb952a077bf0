"""The sections that any run and any evaluation gets, whoever made it."""

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diptych import datasets
from diptych.config import Run
from diptych.evaluation import Result
from diptych.reports import plots, sections
from diptych.reports.averages import BETTER, NOTE
from diptych.reports.board import Board
from diptych.reports.sections import Cell, Section
from diptych.reports.tables import texts

_CLASSES = 30
"""Classes in a table."""


def describe_run(run: Run, rows: Sequence[Mapping[str, Any]], name: str = "Run") -> list[Section]:
    """A training run: its last numbers, its curves and how it was configured. `rows` are those of
    `metrics.jsonl`.

    >>> from diptych import reports
    >>> from diptych.config import Run
    >>> rows = [{"step": 10, "loss": 2.5, "samples_per_second": 80.0}]
    >>> [section.kind for section in reports.describe_run(Run(steps=10), rows)]
    ['headline', 'charts', 'config']
    """
    defaults = Run(steps=run.steps, epochs=run.epochs)
    return [
        sections.headline(
            _last_numbers(rows), note=f"{name}, recipe {run.recipe}" if run.recipe else name
        ),
        sections.curves(rows, title=f"{name}: training"),
        sections.config(
            run,
            against=defaults,
            title=f"{name}: configuration",
            note="What differs from the defaults.",
        ),
    ]


def overview(table: Board) -> Section:
    """Models by sets, best first; a published figure stands in brackets, with ≠ where chance
    doesn't explain it.

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
    notes += [lacking(table), replaced(table)]
    return sections.table("Models and sets", head, rows, note=" ".join(filter(None, notes)))


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


def describe_result(result: Result, name: str = "Result") -> list[Section]:
    """An evaluation: its figures and how they were measured as tables, its confusion matrix as a
    picture, its classes from the hardest to the easiest, its most confident mistakes, and whether
    its confidence is calibrated.

    >>> from diptych import reports
    >>> from diptych.evaluation import Result
    >>> measured = {"metrics": {"top1": 0.75}, "data": {"used": 4}}
    >>> result = Result(task="zero-shot", protocol={}, model={}, **measured)
    >>> measured, how = reports.describe_result(result, "cifar10")
    >>> measured.body["rows"], how.body["rows"][0]
    ([['top1', '75.0%']], ['data.used', '4'])
    """
    measured = [
        (measure, _measured(value, result.intervals.get(measure)))
        for measure, value in result.metrics.items()
    ]
    how = {
        "data": result.data,
        "model": result.model,
        "protocol": result.protocol,
        "versions": result.versions,
    }
    found = [sections.table(f"{name}: {result.task}", ("measure", "value"), measured)]
    if result.confusion:
        names = result.class_names or [str(index) for index in range(len(result.confusion))]
        found.append(sections.confusion(result.confusion, names, title=f"{name}: confusions"))
    if result.per_class and result.confusion:
        found.append(_classes(result, name))
    if result.mistakes:
        found.append(_mistakes(result, name))
    if result.calibration:
        found.append(_reliability(result, name))
    rows = [*_figures(how), ("key", result.key), ("date", result.date)]
    return [*found, sections.table(f"{name}: how it was measured", ("", ""), rows)]


def _measured(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.1%}" + (f" ({interval[0]:.1%} to {interval[1]:.1%})" if interval else "")


def _classes(result: Result, name: str) -> Section:
    """What each class is mostly taken for, the hardest first."""
    rows = list[tuple[str, str, int, str]]()
    for label, (share, counts) in enumerate(zip(result.per_class, result.confusion)):
        if share is None:
            continue
        mistakes = [
            (count, other) for other, count in enumerate(counts) if other != label and count
        ]
        often = ", ".join(
            f"{result.class_names[other]} {count}"
            for count, other in sorted(mistakes, reverse=True)[:3]
        )
        rows.append((result.class_names[label], f"{share:.1%}", sum(counts), often or "—"))
    rows.sort(key=lambda row: float(row[1].rstrip("%")))
    shown = rows[:_CLASSES]
    note = f"The {_CLASSES} hardest of {len(rows)}." if len(rows) > _CLASSES else ""
    return sections.table(
        f"{name}: classes", ("class", "right", "pictures", "mostly taken for"), shown, note=note
    )


def _mistakes(result: Result, name: str) -> Section:
    cells = [
        Cell(
            image=b64decode(each["jpeg"]),
            text=f"{each['true']}, not {each['taken_for']} ({each['confidence']:.0%})",
        )
        for each in result.mistakes
        if each["jpeg"]
    ]
    return sections.pictures(
        f"{name}: surest mistakes", cells, note="In brackets: how sure the model was."
    )


def _reliability(result: Result, name: str) -> Section:
    bins = zip(result.calibration["confidence"], result.calibration["accuracy"])
    points = [
        (100 * confidence, 100 * right) for confidence, right in bins if confidence is not None
    ]
    lines = {"measured": points, "as sure as right": [(0.0, 0.0), (100.0, 100.0)]}
    chart = plots.lines(lines, x="confidence (%)", y="right answers (%)", limits=(0.0, 100.0))
    error = (
        f"Expected calibration error: {result.calibration['error']:.1%} (15 bins, the "
        "model's own temperature)."
    )
    return Section(kind="charts", title=f"{name}: reliability", note=error, body=[chart])


def _last_numbers(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    numbers: dict[str, str] = {}
    for row in rows:
        for name, value in row.get("evaluation", {}).items():
            numbers[f"zero-shot {name}"] = f"{value:.1%}"
        if "loss" in row:
            numbers["loss"] = f"{row['loss']:.3f}"
        if "samples_per_second" in row:
            numbers["pairs per second"] = f"{row['samples_per_second']:,.0f}"
        numbers["steps"] = f"{row['step']:,}"
    return numbers


def _figures(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
