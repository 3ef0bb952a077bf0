"""The parts of a page. Each function turns plain values into a `Section`; the template knows how a
kind looks."""

import platform
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from diptych.config.serialize import difference, to_json
from diptych.reports import plots

PictureLike = str | Path | bytes | Image.Image


@dataclass(frozen=True, kw_only=True)
class Section:
    """`kind` names the template's block; `body` is what that block shows."""

    kind: str
    title: str = ""
    note: str = ""
    body: Any = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One picture of a grid with its line of text; `right` marks it as a hit or a miss."""

    image: PictureLike
    text: str = ""
    right: bool | None = None


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


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], note: str = ""
) -> Section:
    """Text in the first column, figures (right-aligned) in the others. Floats get four digits."""
    cells = [list(map(_text, row)) for row in rows]
    return Section(
        kind="table", title=title, note=note, body={"columns": list(columns), "rows": cells}
    )


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def curves(rows: Sequence[Mapping[str, Any]], title: str = "Training", note: str = "") -> Section:
    """Loss, accuracy and learning rate over steps, from the rows of `metrics.jsonl`; what isn't
    there isn't drawn."""
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    rates = [(row["step"], row["lr"]) for row in rows if "lr" in row]
    evaluations = [(row["step"], row["evaluation"]) for row in rows if "evaluation" in row]
    accuracies = dict[str, list[tuple[int, float]]]()
    for step, values in evaluations:
        for name in filter(lambda name: name.startswith("top"), values):
            accuracies.setdefault(name, []).append((step, 100 * values[name]))
    accuracies = dict(sorted(accuracies.items()))
    charts = []
    if losses:
        charts.append(plots.lines({"loss": losses}, x="step", y="loss"))
    if accuracies:
        charts.append(
            plots.lines(accuracies, x="step", y="zero-shot accuracy (%)", limits=(0.0, 100.0))
        )
    if rates:
        charts.append(plots.lines({"learning rate": rates}, x="step", y="learning rate"))
    return Section(kind="charts", title=title, note=note, body=charts)


def confusion(
    matrix: Sequence[Sequence[int]], names: Sequence[str], title: str = "Confusions", note: str = ""
) -> Section:
    """A square matrix of counts, true classes down, predicted ones across."""
    return Section(kind="charts", title=title, note=note, body=[plots.matrix(matrix, names)])


def grid(title: str, rows: Sequence[GridRow], note: str = "", side: int = 96) -> Section:
    """Queries and the pictures that they found; thumbnails of at most `side` pixels are stored in
    the page."""
    body = list[dict[str, object]]()
    for row in rows:
        body.append({"query": row.query, "cells": [_cell(cell, side) for cell in row.cells]})
    return Section(kind="grid", title=title, note=note, body=body)


def pictures(title: str, cells: Sequence[Cell], note: str = "", side: int = 96) -> Section:
    """Pictures with their captions."""
    return Section(
        kind="pictures", title=title, note=note, body=[_cell(cell, side) for cell in cells]
    )


def config(run: Any, against: Any = None, title: str = "Configuration", note: str = "") -> Section:
    """A configuration: what differs from `against` (its type's defaults, say) as a table, all of it
    folded away."""
    changed = list[list[str]]()
    for path, pair in (difference(against, run) if against is not None else {}).items():
        changed.append([path, *("—" if value is None else str(value) for value in pair)])
    return Section(
        kind="config", title=title, note=note, body={"changed": changed, "json": to_json(run)}
    )


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
    return table(title, ("", ""), list((rows | more).items()))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cell(cell: Cell, side: int) -> dict[str, object]:
    source = cell.image
    if not isinstance(source, Image.Image):
        source = Image.open(BytesIO(source) if isinstance(source, bytes) else source)
    thumbnail = source.convert("RGB")
    thumbnail.thumbnail((side, side))
    stream = BytesIO()
    thumbnail.save(stream, "JPEG", quality=85)
    return {"jpeg": b64encode(stream.getvalue()).decode(), "text": cell.text, "right": cell.right}
