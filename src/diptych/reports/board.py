"""Models by datasets, as the field prints it: a line a model, best first, a column a dataset."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from diptych import datasets, pretrained
from diptych.errors import DataError, UnknownNameError
from diptych.evaluation import Result

BETTER = "better of crop and squash †"
"""Label of a line that holds, set by set, the higher figure of both ways to resize."""
NOTE = (
    "† The higher of two figures for each set, chosen by its test pictures: an upper bound, "
    "as the EVA-CLIP-18B paper "
    "prints it, not something that a user gets."
)
# What the list of models calls the figures that authors publish.
_CLAIMS = {
    ("imagenet1k", "top1"): "imagenet1k zero-shot top-1",
    ("coco", "text_to_image_r5"): "coco text-to-image R@5",
}
_SLACK = 0.001
"""Published figures are rounded to a tenth of a point: so far apart two of them may be without
saying anything."""


class Published(NamedTuple):
    """A figure that somebody printed."""

    value: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of one model on one set."""

    value: float
    interval: tuple[float, float] | None = None
    published: Published | None = None

    @property
    def differs(self) -> bool:
        """Whether the published figure lies outside what chance explains."""
        if self.published is None:
            return False
        low, high = self.interval or (self.value, self.value)
        return not low - _SLACK <= self.published.value <= high + _SLACK


class Line(NamedTuple):
    """Who was measured."""

    model: str
    how: str
    """The way to resize, and the profile where it isn't our own."""


class Column(NamedTuple):
    """On what, and which figure."""

    task: str
    metric: str
    averaged: bool
    """Whether a mean over sets counts it, as the field does: classification without training."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """All figures at once."""

    lines: Sequence[Line]
    """Best first."""
    columns: Sequence[Column]
    cells: Mapping[tuple[Line, Column], Figure]

    def group_means(self, line: Line) -> dict[str, Figure]:
        """Of each known group of which the line has every set, the mean of the sets' own
        figures."""
        own = {
            column.task: self.cells[line, column].value
            for column in self.columns
            if self._counts(line, column)
        }
        found = dict[str, Figure]()
        for name, members in datasets.GROUPS.items():
            if members and all(member in own for member in members):
                value = sum(own[member] for member in members) / len(members)
                found[name] = Figure(value=value, published=_printed(line, name, "mean"))
        return found

    def _counts(self, line: Line, column: Column) -> bool:
        return column.averaged and (line, column) in self.cells

    def mean(self, line: Line) -> float | None:
        """Over the sets that every line has; None if there are fewer than two."""
        counted = [column for column in self.columns if column.averaged]
        values = [self.cells[line, column].value for column in counted if self._shared(column)]
        return sum(values) / len(values) if len(values) > 1 else None

    def _shared(self, column: Column) -> bool:
        """Whether every line has it."""
        return all((line, column) in self.cells for line in self.lines)


def board(
    results: Sequence[Result],
    published: Mapping[tuple[str, str, str], Published] | None = None,
) -> Board:
    """The table of these results; of several about the same cell the newest counts.

    `published` is by (model, task, metric), beside what the list of models knows of its own.
    Datasets stand in the order of `datasets.names()`, others after them by name.

    >>> from diptych.evaluation import Result
    >>> from diptych.reports import board, to_markdown
    >>> common = {"task": "zero-shot", "protocol": {"metric": "top1", "resize": "crop"}}
    >>> common["data"] = {"name": "pets"}
    >>> found = (("a", 0.5), ("b", 0.75))
    >>> results = [Result(metrics={"top1": v}, model={"name": n}, **common) for n, v in found]
    >>> print(to_markdown(board(results)))
    | model | resize | pets |
    | --- | --- | ---: |
    | b | crop | 75.0 |
    | a | crop | 50.0 |
    """
    published, cells = published or {}, dict[tuple[Line, Column], Figure]()
    for result in sorted(results, key=lambda result: result.date):
        line = line_of(result)
        for metric in _metrics(result):
            averaged = result.task in ("zero-shot", "multilabel")
            column = Column(task=task_name(result), metric=metric, averaged=averaged)
            key = (line.model, column.task, metric)
            printed = published.get(key) or _printed(line, column.task, metric) or _claimed(*key)
            interval = result.intervals.get(metric)
            cells[line, column] = Figure(
                value=result.metrics[metric],
                interval=(interval[0], interval[1]) if interval else None,
                published=printed,
            )
    cells |= _better(cells)
    places = {name: place for place, name in enumerate(datasets.names())}
    columns = sorted({column for _, column in cells}, key=lambda column: _place(column, places))
    found = Board(
        lines=list(dict.fromkeys(line for line, _ in cells)), columns=columns, cells=cells
    )
    best_first = sorted(
        found.lines, key=lambda line: (-(found.mean(line) or _first(found, line)), line)
    )
    return Board(lines=best_first, columns=columns, cells=cells)


def line_of(result: Result) -> Line:
    """The line of the table that a result belongs to."""
    return Line(model=str(result.model.get("name", "?")), how=_how(result))


def label(line: Line) -> str:
    """For a table with one column for who was measured: `b-32, crop`."""
    return ", ".join(filter(None, (Path(line.model).name, line.how)))


def task_name(result: Result) -> str:
    """As it was asked for: the set, behind `linear/` or `fewshot/` where a classifier was
    trained."""
    name = str(result.data.get("name", result.data.get("path", "?")))
    known = datasets.builtin(name)
    name = known.name if known else Path(name.rstrip("/")).name
    return f"{result.task}/{name}" if result.task in ("linear", "fewshot") else name


def read_published(path: str | Path) -> dict[tuple[str, str, str], Published]:
    """Figures from a CSV file with the columns model, task, metric, value (a share or per cent) and
    source.

    Raises DataError if the file can't be read or lacks a column.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8-sig"))))
        figures = [
            (row["model"], row["task"], row["metric"], float(row["value"]), row["source"])
            for row in rows
        ]
    except (OSError, UnicodeDecodeError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} can't be read as published figures ({error}); it needs the columns "
            "model, task, metric, value "
            "and source"
        ) from None
    scale = {index: 100.0 if value > 1 else 1.0 for index, (*_, value, _) in enumerate(figures)}
    return {
        (model, task, metric): Published(value / scale[index], source)
        for index, (model, task, metric, value, source) in enumerate(figures)
    }


def _how(result: Result) -> str:
    profile = str(result.protocol.get("profile", ""))
    words = (
        str(result.protocol.get("resize", "")),
        profile if profile not in ("", "own", "diptych") else "",
    )
    return ", ".join(filter(None, words))


def _metrics(result: Result) -> Sequence[str]:
    """The figures of a result that the table shows."""
    main = str(result.protocol.get("metric", next(iter(result.metrics))))
    return [*result.metrics] if main == "mean_recall" else [main]


def _better(cells: Mapping[tuple[Line, Column], Figure]) -> dict[tuple[Line, Column], Figure]:
    """A line more for each model that was shown pictures in two ways: the higher figure of each
    set."""
    found = dict[tuple[Line, Column], Figure]()
    for (line, column), cell in cells.items():
        ways = {other.how for other, _ in cells if other.model == line.model}
        if {"crop", "squash"} <= ways and line.how in ("crop", "squash"):
            key = (Line(model=line.model, how=BETTER), column)
            if key not in found or cell.value > found[key].value:
                found[key] = Figure(value=cell.value, published=cell.published)
    return found


def _printed(line: Line, name: str, metric: str) -> Published | None:
    """What is on record of a model on a set or group, shown pictures in the same way or in one that
    isn't told."""
    way = "best" if line.how == BETTER else line.how.partition(",")[0]
    rows = [
        row
        for row in datasets.published(model=Path(line.model).name, name=name)
        if row.metric == metric
    ]
    row = next((row for wanted in (way, "") for row in rows if row.resize == wanted), None)
    return Published(row.value / 100, row.source) if row else None


def _claimed(model: str, task: str, metric: str) -> Published | None:
    claim = _CLAIMS.get((task, metric))
    # A result may be anybody's file: what it calls its model is looked up, and never imported.
    if ":" in model.removeprefix("hf-hub:"):
        return None
    try:
        weights = pretrained.weights(model) if claim else None
    except UnknownNameError:
        return None
    found = (each for each in (weights.claims if weights else ()) if each.metric == claim)
    return next((Published(each.value / 100, each.source) for each in found), None)


def _place(column: Column, places: Mapping[str, int]) -> tuple[bool, int, str]:
    """Sets first, trained classifiers after them."""
    name = column.task.rpartition("/")[2]
    return "/" in column.task, places.get(name, len(places)), column.task


def _first(table: Board, line: Line) -> float:
    return next(
        table.cells[line, column].value for column in table.columns if (line, column) in table.cells
    )
