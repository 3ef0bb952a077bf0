"""Models by sets, as the field prints it: a line a model, best first, a column a set; as markdown,
CSV or LaTeX."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from diptych import datasets, pretrained
from diptych.data.files import write_atomically
from diptych.errors import ConfigError, DataError, UnknownNameError
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
class Cell:
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
    cells: Mapping[tuple[Line, Column], Cell]

    def group_means(self, line: Line) -> dict[str, Cell]:
        """Of each known group of which the line has every set, the mean of the sets' own
        figures."""
        own = {
            column.task: self.cells[line, column].value
            for column in self.columns
            if self._counts(line, column)
        }
        found = dict[str, Cell]()
        for name, members in datasets.GROUPS.items():
            if members and all(member in own for member in members):
                value = sum(own[member] for member in members) / len(members)
                found[name] = Cell(value=value, published=_printed(line, name, "mean"))
        return found

    def _counts(self, line: Line, column: Column) -> bool:
        return column.averaged and (line, column) in self.cells

    def mean(self, line: Line) -> float | None:
        """Over the sets that every line has; None if there are fewer than two."""
        counted = [column for column in self.columns if column.averaged]
        shared = [
            column
            for column in counted
            if all((other, column) in self.cells for other in self.lines)
        ]
        return (
            sum(self.cells[line, column].value for column in shared) / len(shared)
            if len(shared) > 1
            else None
        )


def board(
    results: Sequence[Result],
    published: Mapping[tuple[str, str, str], Published] | None = None,
) -> Board:
    """The table of these results; of several about the same cell the newest counts.

    `published` is by (model, task, metric), beside what the list of models knows of its own. Sets stand in
    the order of `datasets.names()`, others after them by name.

    >>> from diptych.evaluation import Result
    >>> from diptych.reports import board, to_markdown
    >>> common = {"task": "zero-shot", "protocol": {"metric": "top1", "resize": "crop"}, "data": {"name": "pets"}}
    >>> results = [Result(metrics={"top1": v}, model={"name": n}, **common) for n, v in (("a", 0.5), ("b", 0.75))]
    >>> print(to_markdown(board(results)))
    | model | resize | pets |
    | --- | --- | ---: |
    | b | crop | 75.0 |
    | a | crop | 50.0 |
    """
    published, cells = published or {}, dict[tuple[Line, Column], Cell]()
    for result in sorted(results, key=lambda result: result.date):
        line = line_of(result)
        for metric in _metrics(result):
            averaged = result.task in ("zero-shot", "multilabel")
            column = Column(task=task_name(result), metric=metric, averaged=averaged)
            key = (line.model, column.task, metric)
            printed = published.get(key) or _printed(line, column.task, metric) or _claimed(*key)
            interval = result.intervals.get(metric)
            cells[line, column] = Cell(
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


def write_table(out: str | Path, table: Board) -> Path:
    """The table in the language that the file's ending says: .md, .csv or .tex. Raises ConfigError
    for another."""
    out = Path(out)
    writers = {".md": to_markdown, ".csv": to_csv, ".tex": to_latex}
    if out.suffix not in writers:
        raise ConfigError(f"--table {out}: a table is written as {', '.join(writers)}")
    text = writers[out.suffix](table) + "\n"
    write_atomically(out, lambda path: path.write_text(text, encoding="utf-8"))
    return out


def to_markdown(table: Board) -> str:
    """Percentages; ± is half of the 95 % interval; a published figure stands in brackets, with ≠
    where it differs."""
    head, *rows = texts(table)
    rules = ["---", "---", *("---:" for _ in head[2:])]
    escaped = [[text.replace("|", "\\|") for text in row] for row in (head, rules, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped) + _footnote(table)


def to_latex(table: Board) -> str:
    """A booktabs table; the best of each column is bold."""
    best = {
        column: max(cell.value for (_, other), cell in table.cells.items() if other == column)
        for column in table.columns
    }

    def text(cell: Cell, column: Column) -> str:
        figure = _text(cell, r"\,$\pm$\,", r"$\neq$")
        return (
            rf"\textbf{{{figure}}}"
            if cell.value == best[column] and len(table.lines) > 1
            else figure
        )

    head, *rows = texts(table, text)
    lines = [
        rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
        r"\toprule",
        " & ".join(map(_escape, head)) + r" \\",
        r"\midrule",
        *(" & ".join([*map(_escape, row[:2]), *row[2:]]) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def to_csv(table: Board) -> str:
    """A line a figure, unrounded, so that any tool can turn it as it likes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["model", "how", "task", "metric", "value", "low", "high", "published", "source", "differs"]
    )
    for line in table.lines:
        for column in table.columns:
            if cell := table.cells.get((line, column)):
                interval, printed = cell.interval or ("", ""), cell.published or ("", "")
                writer.writerow(
                    [
                        *line,
                        column.task,
                        column.metric,
                        cell.value,
                        *interval,
                        *printed,
                        int(cell.differs),
                    ]
                )
    return out.getvalue().rstrip("\n")


def texts(table: Board, text: Callable[[Cell, Column], str] | None = None) -> list[list[str]]:
    """The head and the rows, cells by `text`, or as `to_markdown` has them. Means of complete
    groups stand last, or else the mean over what all lines have."""
    text = text or (lambda cell, _: _text(cell, "±", "≠"))
    tasks = [column.task for column in table.columns]
    heads = [
        c.task if tasks.count(c.task) == 1 else f"{c.task} {_short(c.metric)}"
        for c in table.columns
    ]
    groups = {line: table.group_means(line) for line in table.lines}
    names = list(dict.fromkeys(name for means in groups.values() for name in means))
    averaged = not names and any(table.mean(line) is not None for line in table.lines)
    rows = [["model", "resize", *heads, *names, *(["mean"] if averaged else [])]]
    for line in table.lines:
        cells = [table.cells.get((line, column)) for column in table.columns]
        figures = [
            text(cell, column) if cell else "—" for cell, column in zip(cells, table.columns)
        ]
        means = [
            _text(groups[line][name], "±", "≠") if name in groups[line] else "—" for name in names
        ]
        shared = [f"{100 * (table.mean(line) or 0):.1f}"] if averaged else []
        rows.append([Path(line.model).name, line.how, *figures, *means, *shared])
    return rows


def _text(cell: Cell, plus_minus: str, unequal: str) -> str:
    """Such as `75.5±0.4 (75.3)`."""
    figure = f"{100 * cell.value:.1f}"
    if cell.interval:
        figure += f"{plus_minus}{50 * (cell.interval[1] - cell.interval[0]):.1f}"
    if cell.published:
        figure += f" ({unequal if cell.differs else ''}{100 * cell.published.value:.1f})"
    return figure


def _footnote(table: Board) -> str:
    return f"\n\n{NOTE}" if any(line.how == BETTER for line in table.lines) else ""


def _escape(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, "\\" + sign)
    return text.replace("†", r"$\dagger$")


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


def _better(cells: Mapping[tuple[Line, Column], Cell]) -> dict[tuple[Line, Column], Cell]:
    """A line more for each model that was shown pictures in two ways: the higher figure of each
    set."""
    found = dict[tuple[Line, Column], Cell]()
    for (line, column), cell in cells.items():
        ways = {other.how for other, _ in cells if other.model == line.model}
        if {"crop", "squash"} <= ways and line.how in ("crop", "squash"):
            key = (Line(model=line.model, how=BETTER), column)
            if key not in found or cell.value > found[key].value:
                found[key] = Cell(value=cell.value, published=cell.published)
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


def _short(metric: str) -> str:
    """`image_to_text_r5` as `i→t R@5`."""
    return (
        metric.replace("image_to_text_r", "i→t R@")
        .replace("text_to_image_r", "t→i R@")
        .replace("mean_recall", "MR")
        .replace("_", " ")
    )
