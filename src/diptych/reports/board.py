"""Models by datasets, as the field prints it: a line a model, best first, a column a dataset."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from diptych import datasets, pretrained
from diptych.errors import DataError, UnknownNameError
from diptych.evaluation import Result
from diptych.reports.labels import Labels, Line, natural

BETTER = "better of crop and squash †"
"""Label of a line that holds, set by set, the higher figure of both ways to resize."""
NOTE = (
    "† The higher of two figures for each set, chosen by its test pictures: an upper bound, "
    "as the EVA-CLIP-18B paper "
    "prints it, not something that a user gets."
)
RECALLS = (
    *(f"{way}_r{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)),
    "mean_recall",
)
"""In the order in which the field prints them."""
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


class Column(NamedTuple):
    """On what, and which figure."""

    task: str
    metric: str
    averaged: bool
    """Whether a mean over sets counts it, as the field does: classification without training."""
    main: bool = True
    """Whether the set is known by this figure."""


_Place = tuple[Line, Column]


@dataclass(frozen=True, kw_only=True)
class Board:
    """All figures at once."""

    lines: Sequence[Line]
    """Best first."""
    columns: Sequence[Column]
    """In the order of the field, the sets of one's own by name; recalls as they are printed."""
    cells: Mapping[tuple[Line, Column], Figure]
    labels: Labels
    replaced: Sequence[tuple[Line, str]] = ()
    """Models and tasks of which there are older results with other figures, which don't count."""

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

    def score(self, line: Line) -> float:
        """What models are ranked by: the mean of what sets are known by, over the sets that every
        line has (of those that means count, where there are some), or else over the line's own."""
        main = [column for column in self.columns if column.main]
        shared = [column for column in main if self._shared(column)]
        counted = [column for column in shared if column.averaged] or shared
        own = counted or [column for column in main if (line, column) in self.cells]
        return sum(self.cells[line, column].value for column in own) / len(own)

    def _counts(self, line: Line, column: Column) -> bool:
        return column.averaged and (line, column) in self.cells

    def mean(self, line: Line) -> float | None:
        """Over the sets that every line has; None if there are fewer than two."""
        values = [self.cells[line, column].value for column in self._counted()]
        return sum(values) / len(values) if len(values) > 1 else None

    @property
    def mean_of(self) -> str:
        """What `mean` is of."""
        return f"mean of {len(self._counted())} zero-shot sets"

    def _counted(self) -> list[Column]:
        return [column for column in self.columns if column.averaged and self._shared(column)]

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
    published, cells, labels = published or {}, dict[_Place, Figure](), Labels.of(results)
    newest = dict[tuple[Line, str], Result]()
    replaced = dict[tuple[Line, str], None]()
    for result in sorted(results, key=lambda result: result.date):
        line, task = labels.line(result), labels.task(result)
        older = newest.get((line, task))
        if older and older.metrics != result.metrics:
            replaced[line, task] = None
        newest[line, task] = result
        for column in _columns(result, task):
            interval = result.intervals.get(column.metric)
            cells[line, column] = Figure(
                value=result.metrics[column.metric],
                interval=(interval[0], interval[1]) if interval else None,
                published=_on_record(result, line, column, published),
            )
    cells |= _better(cells)
    places = {name: place for place, name in enumerate(datasets.names())}
    columns = sorted({column for _, column in cells}, key=lambda column: _place(column, places))
    # Where two are equally good, by name: what the table says never depends on the files' order.
    lines = sorted({line for line, _ in cells}, key=lambda line: [*map(natural, line)])
    found = Board(
        lines=lines, columns=columns, cells=cells, labels=labels, replaced=tuple(replaced)
    )
    return replace(found, lines=sorted(lines, key=found.score, reverse=True))


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


def _columns(result: Result, task: str) -> Iterator[Column]:
    """For the figures of a result that the table shows."""
    main = str(result.protocol.get("metric", ""))
    main = main if main in result.metrics else next(iter(result.metrics))
    for metric in result.metrics if main == "mean_recall" else [main]:
        yield Column(
            task=task,
            metric=metric,
            averaged=result.task in ("zero-shot", "multilabel"),
            main=metric == main,
        )


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


def _on_record(
    result: Result, line: Line, column: Column, published: Mapping[tuple[str, str, str], Published]
) -> Published | None:
    """The caller's figure, under the model's label or its whole name, or else ours."""
    model = str(result.model.get("name", "?"))
    for name in (model, line.model):
        if printed := published.get((name, column.task, column.metric)):
            return printed
    return _printed(line, column.task, column.metric) or _claimed(model, column.task, column.metric)


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


def _place(column: Column, places: Mapping[str, int]) -> tuple[Any, ...]:
    """Sets first, trained classifiers after them; recalls as the field prints them."""
    name = column.task.rpartition("/")[2]
    known, recall = places.get(name, len(places)), column.metric in RECALLS
    figure = RECALLS.index(column.metric) if recall else len(RECALLS)
    trained = column.task.startswith(("linear/", "fewshot/"))
    return trained, known, natural(column.task), figure, column.metric
