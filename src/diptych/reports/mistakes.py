"""What a model takes for something else: its surest mistakes, and where it looks in them."""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from diptych.evaluation import Result
from diptych.reports import sections
from diptych.reports.heat import laid_over
from diptych.reports.sections import Cell, GridRow, Section

_SIDE = 144
"""Of a heat map, in pixels."""


def mistakes_of(result: Result) -> list[Section]:
    """The wrong predictions that the model was most confident of; then the heat maps of those that
    have some (`diptych evaluate --maps`)."""
    cells = [
        Cell(
            image=b64decode(each["jpeg"]) if each["jpeg"] else None,
            text=f"{each['true']}, not {each['taken_for']} ({each['confidence']:.0%})",
            detail=str(each.get("key", "")),
        )
        for each in result.mistakes
    ]
    note = "The true class, what the model took it for, and how sure it was."
    found = [sections.pictures("Surest mistakes", cells, note=note)]
    mapped = [each for each in result.mistakes if each.get("maps")]
    return [*found, _seen(mapped)] if mapped else found


def _seen(mistakes: Sequence[Mapping[str, Any]]) -> Section:
    rows = list[GridRow]()
    for each in mistakes:
        square, (true, other) = b64decode(each.get("square", "")), each["maps"]
        cells = (
            Cell(image=square, text="what the model sees"),
            Cell(image=laid_over(square, true), text=each["true"], right=True),
            Cell(image=laid_over(square, other), text=each["taken_for"], right=False),
        )
        rows.append(GridRow(query=f"{each['true']}, not {each['taken_for']}", cells=cells))
    note = "Where in a picture the text of each class is, from blue to yellow."
    return sections.grid("Where it looks", rows, note, side=_SIDE)
