"""Numbers that others have published, to stand beside one's own."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from diptych import pretrained


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """One published number, in percent."""

    model: str
    """As its publisher calls it; `(open_clip)`: measured by open_clip with converted weights."""
    name: str
    """A set, or a group of sets."""
    metric: str
    """A set's metric, one recall (`text_to_image_r1`), or `mean` of a group."""
    value: float
    resize: str = ""
    """`crop`, `squash`, or `best`: the better of the two, set by set. Empty: not told apart."""
    profile: str
    source: str
    note: str = ""


def published(*, model: str = "", name: str = "") -> tuple[PublishedScore, ...]:
    """What is on record: of a model, of a set or group, or of both. A model may go by any of its
    names, or be the path of a published file.

    >>> from diptych import datasets
    >>> [(row.value, row.resize) for row in datasets.published(model="EVA-CLIP-18B", name="eva27")]
    [(80.7, 'best'), (80.44, 'crop'), (80.39, 'squash')]
    """
    wanted = _identity(model)
    return tuple(
        row
        for row in _rows()
        if (not model or wanted == _identity(row.model)) and (not name or name == row.name)
    )


@functools.cache
def _identity(model: str) -> str:
    """One spelling for all names of a model; by whom it was measured stays apart."""
    name, bracket, whom = model.partition(" (")
    entry = pretrained.identify(name)
    return f"{entry.name}{bracket}{whom}" if entry else model.lower().replace("_", "-")


@functools.cache
def _rows() -> tuple[PublishedScore, ...]:
    text = (files("diptych.datasets") / "published.json").read_text(encoding="utf-8")
    rows = list[PublishedScore]()
    for model, record in json.loads(text).items():
        for name, metrics in record["sets"].items():
            for metric, value in metrics.items():
                one = {record.get("resize", ""): value}
                values = value if isinstance(value, Mapping) else one
                rows += _by_resize(model, record, name, metric, values)
        for name, values in record["groups"].items():
            rows += _by_resize(model, record, name, "mean", values)
    return tuple(rows)


def _by_resize(
    model: str, record: Mapping[str, Any], name: str, metric: str, values: Mapping[str, float]
) -> list[PublishedScore]:
    """One figure for each way of resizing."""
    common = {key: record.get(key, "") for key in ("profile", "source", "note")}
    return [
        PublishedScore(model=model, name=name, metric=metric, value=value, resize=resize, **common)
        for resize, value in values.items()
    ]
