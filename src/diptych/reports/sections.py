"""The parts of a page. Each function turns plain values into a `Section`; the template knows how a
kind looks."""

import contextlib
import platform
from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from diptych.config.serialize import difference, to_json
from diptych.errors import ImageError
from diptych.inputs import decode
from diptych.reports import plots

_DRAWN = 20
"""Classes of a confusion matrix that can be read."""
_CONFUSED = 20
"""Pairs of classes that are listed instead."""
_THUMBNAIL = 96
"""Pixels of a picture's longer side."""
Lines = dict[str, list[tuple[int, float]]]
"""Of a chart: (x, y) by the lines' names."""
PictureLike = str | Path | bytes | Image.Image


@dataclass(frozen=True, kw_only=True)
class Section:
    """`kind` names the template's block; `body` is what that block shows."""

    kind: str
    title: str = ""
    note: str = ""
    body: Any = None
    anchor: str = ""
    """What links to it end in: `page.html#ANCHOR`."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One picture of a grid with its line of text; `right` marks it as a hit or a miss."""

    image: PictureLike | None
    """None: it is gone, and a placeholder is shown."""
    text: str = ""
    right: bool | None = None
    detail: str = ""
    """A second line, such as the file's name."""
    link: str = ""
    """Where the picture leads."""


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """A query and what it found, best first."""

    query: str
    cells: Sequence[Cell]


def headline(numbers: Mapping[str, str], note: str = "") -> Section:
    """The few numbers that a reader should remember: label -> text."""
    return Section(kind="headline", note=note, body=dict(numbers))


def prose(title: str, paragraphs: Sequence[str]) -> Section:
    """Plain paragraphs."""
    return Section(kind="prose", title=title, body=list(paragraphs))


def group(
    title: str, members: Sequence[Section], note: str = "", anchor: str = "", folded: bool = True
) -> Section:
    """Sections under one heading, folded away until somebody asks for them."""
    body = {"sections": list(members), "folded": folded}
    return Section(kind="group", title=title, note=note, body=body, anchor=anchor)


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    note: str = "",
    *,
    words: Collection[str] = (),
    links: Mapping[tuple[int, int], str] | None = None,
) -> Section:
    """Figures stand at the right, and never break; words stand at the left: the first column, and
    those whose names are in `words`. Floats get four digits. `links` are by row and column."""
    cells = [list(map(_text, row)) for row in rows]
    body = {
        "columns": list(columns),
        "rows": cells,
        "links": dict(links or {}),
        "words": [not place or name in words for place, name in enumerate(columns)],
    }
    return Section(kind="table", title=title, note=note, body=body)


def facts(title: str, rows: Iterable[tuple[str, object]], note: str = "") -> Section:
    """A table of names and what they are."""
    return table(title, ("", ""), list(rows), note, words=("",))


def remarks(title: str, lines: Sequence[str]) -> Section:
    """What a reader of the numbers has to know; it stands out."""
    return Section(kind="remarks", title=title, body=list(lines))


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def curves(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], title: str = "Training", note: str = ""
) -> Section:
    """Losses, accuracies and learning rate over steps, from the rows of `metrics.jsonl` of each
    run, by its name; several runs are drawn together. What isn't there isn't drawn."""
    flat = {name: [row | row.get("evaluation", {}) for row in rows] for name, rows in runs.items()}
    charts = list[Markup]()
    for figure, y in (("loss", "loss"), ("val/loss", "held-out loss")):
        if lines := _over_steps(flat, figure):
            charts.append(plots.lines(lines, x="step", y=y))
    for y, lines in _accuracies(flat).items():
        charts.append(plots.lines(lines, x="step", y=f"{y} (%)", limits=(0.0, 100.0)))
    if rates := _over_steps(flat, "lr"):
        charts.append(plots.lines(rates, x="step", y="learning rate"))
    return Section(kind="charts", title=title, note=note, body=charts)


def _accuracies(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Lines]:
    """For each chart, by its axis, the lines: of several runs a chart for each figure, of a single
    one all its accuracies together."""
    names = dict.fromkeys(chain.from_iterable(chain.from_iterable(runs.values())))
    tops = sorted(name for name in names if name.rpartition("/")[2] in ("top1", "top5"))
    found = {f"zero-shot {name}": _over_steps(runs, name, scale=100.0) for name in tops}
    if len(runs) == 1 and found:
        [one] = runs
        together = {name: lines[one] for name, lines in zip(tops, found.values())}
        found = {"zero-shot accuracy": together}
    recalls = _over_steps(runs, "val/mean_recall", scale=100.0)
    return found | ({"held-out mean recall": recalls} if recalls else {})


def _over_steps(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], figure: str, scale: float = 1.0
) -> Lines:
    found: Lines = {}
    for name, rows in runs.items():
        points = [(row["step"], scale * row[figure]) for row in rows if figure in row]
        found |= {name: sorted(points)} if points else {}
    return found


def confusion(
    matrix: Sequence[Sequence[int]], names: Sequence[str], title: str = "Confusions", note: str = ""
) -> Section:
    """A square matrix of counts, true classes down, predicted ones across. Of more classes than can
    be read in a drawing it is a table of what is confused most often."""
    if len(names) <= _DRAWN:
        return Section(kind="charts", title=title, note=note, body=[plots.matrix(matrix, names)])
    found = list[tuple[int, int, int]]()
    for true, counts in enumerate(matrix):
        found += [(count, true, other) for other, count in enumerate(counts) if count]
    wrong = sorted((-count, true, other) for count, true, other in found if true != other)
    rows = [
        (names[true], names[other], -count, f"{-count / sum(matrix[true]):.1%}")
        for count, true, other in wrong[:_CONFUSED]
    ]
    total = f"The {len(rows)} most frequent of {len(wrong)} pairs of classes."
    columns = ("class", "taken for", "pictures", "of the class")
    return table(title, columns, rows, f"{note} {total}".strip(), words=("taken for",))


def grid(title: str, rows: Sequence[GridRow], note: str = "", side: int = _THUMBNAIL) -> Section:
    """Queries and the pictures that they found; thumbnails of at most `side` pixels are stored in
    the page."""
    body = list[dict[str, object]]()
    for row in rows:
        body.append({"query": row.query, "cells": [_cell(cell, side) for cell in row.cells]})
    return Section(kind="grid", title=title, note=note, body=body)


def pictures(title: str, cells: Sequence[Cell], note: str = "") -> Section:
    """Pictures with their captions."""
    return Section(kind="pictures", title=title, note=note, body=[_cell(cell) for cell in cells])


def hits(cells: Sequence[Cell]) -> Section:
    """Pictures that a search found, whole and large, best first."""
    return Section(kind="hits", body=[_cell(cell, side=480) for cell in cells])


def config(run: Any, against: Any = None, title: str = "Configuration", note: str = "") -> Section:
    """A configuration: what differs from `against` (its type's defaults, say) as a table, all of it
    folded away."""
    changed = list[list[str]]()
    for path, pair in (difference(against, run) if against is not None else {}).items():
        changed.append([path, *map(_setting, pair)])
    columns = ("setting", "default", "here")
    body = {"changed": table("", columns, changed, words=columns), "json": to_json(run)}
    return Section(kind="config", title=title, note=note, body=body)


def _setting(value: object) -> str:
    return "—" if value is None else str(value)


def config_differences(runs: Mapping[str, Any], title: str) -> Section:
    """In what the configurations of several runs, by their names, differ."""
    first, *others = runs.values()
    settings = dict[str, list[str]]()
    for place, other in enumerate(others, 1):
        for path, (one, here) in difference(first, other).items():
            row = settings.setdefault(path, [_setting(one)] * len(runs))
            row[place] = _setting(here)
    rows = [[path, *values] for path, values in settings.items()]
    note = "" if rows else "None: they have the same configuration."
    return table(title, ("setting", *runs), rows, note, words=tuple(runs))


def environment(title: str = "Environment", **more: object) -> Section:
    """Versions, processor and device of this process, and what else the caller knows."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    rows: dict[str, object] = {
        "Python": platform.python_version(),
        **{name: _version(name) for name in ("diptych", "torch", "torchvision", "numpy", "pillow")},
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": torch.get_num_threads(),
    }
    return facts(title, (rows | more).items())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cell(cell: Cell, side: int = _THUMBNAIL) -> dict[str, object]:
    jpeg = ""
    if cell.image is not None:
        # A stranger's result may hold anything; its words are shown without the picture.
        with contextlib.suppress(ImageError):
            jpeg = _thumbnail(cell.image, side)
    return {
        "jpeg": jpeg,
        "text": cell.text,
        "right": cell.right,
        "detail": cell.detail,
        "link": cell.link,
    }


def _thumbnail(source: PictureLike, side: int) -> str:
    levels = decode(source, at_least=side)
    thumbnail = Image.fromarray(levels.permute(1, 2, 0).numpy())
    thumbnail.thumbnail((side, side))
    stream = BytesIO()
    thumbnail.save(stream, "JPEG", quality=85)
    return b64encode(stream.getvalue()).decode()
