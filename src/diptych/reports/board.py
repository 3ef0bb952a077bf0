"""Models by datasets, as the field prints it: a line a model, best first, a column a dataset."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from diptych import datasets
from diptych.bounded import read_text
from diptych.errors import DataError
from diptych.evaluation import Result
from diptych.reports.averages import BETTER, better_ways, groups_of
from diptych.reports.labels import Labels, Line, natural
from diptych.reports.record import Published, Setting, given, on_record

RECALLS = (
    *(f"{way}_r{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)),
    "mean_recall",
)
"""In the order in which the field prints them."""
_SLACK = 0.001
"""Published figures are rounded to a tenth of a point: so far apart two of them may be without
saying anything."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of one model on one set."""

    value: float
    interval: tuple[float, float] | None = None
    published: Published | None = None
    resize: str = ""
    """Of the pictures: `crop`, `squash`, or `best`: the better of both."""
    partial: bool = False
    """Whether the set, or a set of a mean, has another number of samples than was published."""

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
    settings: Mapping[Line, Setting]
    """Whose figures on record each line's may be compared with."""
    replaced: Sequence[tuple[Line, str]] = ()
    """Models and tasks of which there are older results with other figures, which don't count."""

    def group_means(self, line: Line) -> dict[str, Figure]:
        """Of each known group of which the line has every set, the mean of what the sets are known
        by; `linear/GROUP` of linear probes."""
        own, found = self._main(line), dict[str, Figure]()
        for name, missing in groups_of(own).items():
            if not missing:
                prefix, _, group = name.rpartition("/")
                members = (f"{prefix}/{each}".lstrip("/") for each in datasets.GROUPS[group])
                found[name] = self._mean(line, name, [own[member] for member in members])
        return found

    def group_names(self) -> tuple[str, ...]:
        """The groups of which any line has a mean, in the order of `datasets.GROUPS`, those of
        linear and few-shot probes last."""
        found = {name for line in self.lines for name in self.group_means(line)}
        return tuple(
            name for name in groups_of([column.task for column in self.columns]) if name in found
        )

    def _mean(self, line: Line, name: str, figures: Sequence[Figure]) -> Figure:
        ways = {figure.resize for figure in figures}
        way, partial = ways.pop() if len(ways) == 1 else "best", any(f.partial for f in figures)
        printed = None if partial else on_record(self.settings[line], way, name, "mean")
        value = sum(figure.value for figure in figures) / len(figures)
        return Figure(value=value, published=printed, resize=way, partial=partial)

    def missing(self, line: Line) -> dict[str, tuple[str, ...]]:
        """Of each group of which the line has some sets, but not all, those that it lacks."""
        return {name: lacking for name, lacking in groups_of(self._main(line)).items() if lacking}

    def _main(self, line: Line) -> dict[str, Figure]:
        """By task, the figure that it is known by."""
        return {
            column.task: self.cells[line, column]
            for column in self.columns
            if column.main and (line, column) in self.cells
        }

    def score(self, line: Line) -> float:
        """What models are ranked by: the mean of what sets are known by, over the sets that every
        line has (of those that means count, where there are some), or else over the line's own."""
        main = [column for column in self.columns if column.main]
        shared = [column for column in main if self._shared(column)]
        counted = [column for column in shared if column.averaged] or shared
        own = counted or [column for column in main if (line, column) in self.cells]
        return sum(self.cells[line, column].value for column in own) / len(own)

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
    replaced, settings = dict[tuple[Line, str], None](), dict[Line, Setting]()
    for result in sorted(results, key=lambda result: result.date):
        line, task = labels.line(result), labels.task(result)
        older = newest.get((line, task))
        if older and older.metrics != result.metrics:
            replaced[line, task] = None
        newest[line, task], settings[line] = result, Setting.of(result)
        for column in _columns(result, task):
            cells[line, column] = _figure(result, line, column, published)
    more, whose = _better(cells, settings)
    cells |= more
    places = {name: place for place, name in enumerate(datasets.names())}
    columns = sorted({column for _, column in cells}, key=lambda column: _place(column, places))
    # Where two are equally good, by name: what the table says never depends on the files' order.
    lines = sorted({line for line, _ in cells}, key=lambda line: [*map(natural, line)])
    found = Board(
        lines=lines,
        columns=columns,
        cells=cells,
        labels=labels,
        settings=settings | whose,
        replaced=tuple(replaced),
    )
    return replace(found, lines=sorted(lines, key=found.score, reverse=True))


def main_metric(result: Result) -> str:
    """The figure that the result's set is known by."""
    main = str(result.protocol.get("metric", ""))
    return main if main in result.metrics else next(iter(result.metrics))


def place_of_metric(metric: str) -> int:
    """Where it stands: recalls as the field prints them, all else before them."""
    return RECALLS.index(metric) if metric in RECALLS else -1


def read_published(path: str | Path) -> dict[tuple[str, str, str], Published]:
    """Figures from a CSV file with the columns model, task, metric, value (a share or per cent) and
    source.

    Raises DataError if the file can't be read or lacks a column.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path))))
        figures = [
            (row["model"], row["task"], row["metric"], float(row["value"]), row["source"])
            for row in rows
        ]
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
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
    main = main_metric(result)
    for metric in result.metrics if main == "mean_recall" else [main]:
        yield Column(
            task=task,
            metric=metric,
            averaged=result.task in ("zero-shot", "multilabel"),
            main=metric == main,
        )


def _figure(
    result: Result, line: Line, column: Column, published: Mapping[tuple[str, str, str], Published]
) -> Figure:
    resize, interval = str(result.protocol.get("resize", "")), result.intervals.get(column.metric)
    names = (str(result.model.get("name", "?")), line.model)
    printed = given(published, names, column.task, column.metric)
    expected = result.data.get("expected") or 0
    return Figure(
        value=result.metrics[column.metric],
        interval=(interval[0], interval[1]) if interval else None,
        published=printed or on_record(Setting.of(result), resize, column.task, column.metric),
        resize=resize,
        partial=expected not in (0, result.data.get("used")),
    )


def _better(
    cells: Mapping[_Place, Figure], settings: Mapping[Line, Setting]
) -> tuple[dict[_Place, Figure], dict[Line, Setting]]:
    """A line more for each model that was shown pictures in two ways under one convention: of each
    set the figures of the better way."""
    scores = dict[tuple[Line, str], dict[str, float]]()
    plain = {
        line: Line(model=line.model, how=line.how.removeprefix(cell.resize).removeprefix(", "))
        for (line, _), cell in cells.items()
    }
    for (line, column), cell in cells.items():
        if column.main:
            scores.setdefault((plain[line], column.task), {})[cell.resize] = cell.value
    profiles = {plain[line]: setting.profile for line, setting in settings.items()}
    ways, found, whose = better_ways(scores, profiles), dict[_Place, Figure](), {}
    for (line, column), cell in cells.items():
        if ways.get((plain[line], column.task)) == cell.resize:
            how = ", ".join(filter(None, (BETTER, plain[line].how)))
            better = Line(model=line.model, how=how)
            whose[better] = settings[line]
            best = "best" if len(scores[plain[line], column.task]) > 1 else cell.resize
            printed = on_record(settings[line], best, column.task, column.metric)
            found[better, column] = replace(
                cell, interval=None, published=printed or cell.published, resize=best
            )
    return found, whose


def _place(column: Column, places: Mapping[str, int]) -> tuple[Any, ...]:
    """Sets first, trained classifiers after them; recalls as the field prints them."""
    name = column.task.rpartition("/")[2]
    known = places.get(name, len(places))
    trained = column.task.startswith(("linear/", "fewshot/"))
    figure = place_of_metric(column.metric)
    return trained, known, natural(column.task), figure, column.metric
