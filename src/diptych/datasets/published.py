"""Numbers that others have published, to stand beside one's own."""

import functools
import json
from collections.abc import Iterator, Mapping
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
    frames: int = 1
    """Of each clip, whose vectors were averaged; 1: the middle one, or pictures."""
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
        whole = {key: record.get(key, "") for key in ("resize", "profile", "source", "note")}
        several = record.get("frames", {})
        for frames, part in {1: record, **several}.items():
            rows += _of_part(part, {**whole, "model": model, "frames": int(frames)})
    return tuple(rows)


def _of_part(part: Mapping[str, Any], common: Mapping[str, Any]) -> Iterator[PublishedScore]:
    """One figure for each set or group, metric and way of resizing."""
    groups = {name: {"mean": values} for name, values in part["groups"].items()}
    for name, metrics in (*part["sets"].items(), *groups.items()):
        for metric, found in metrics.items():
            values = found if isinstance(found, Mapping) else {common["resize"]: found}
            for resize, value in values.items():
                own = {**common, "resize": resize}
                yield PublishedScore(name=name, metric=metric, value=value, **own)
