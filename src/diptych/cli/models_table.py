"""diptych models --sort imagenet: a line for each published file."""

import fnmatch
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from diptych.cli.show import Names, say, show
from diptych.errors import ConfigError
from diptych.families.entry import COCO, DATACOMP, IMAGENET
from diptych.pretrained import Entry, Weights, published

Key = Literal["", "imagenet", "datacomp", "coco", "parameters", "gflops"]
_METRICS = {"imagenet": IMAGENET, "datacomp": DATACOMP, "coco": COCO}
_HEADS = ("ImageNet", "DataComp-38", "COCO")
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9}


class Row(NamedTuple):
    """Weights of a model, and what is compared."""

    name: str
    """What `diptych.load` takes."""
    image_size: int
    parameters: int
    gflops: float
    """For one picture and one caption."""
    imagenet: float | None
    datacomp: float | None
    coco: float | None
    licence: str
    languages: str


def rows(entry: Entry, parameters: int, flops: int) -> list[Row]:
    """One for each of the model's published files; none for a model without."""
    return [
        Row(
            name=name,
            image_size=entry.image.image_size,
            parameters=parameters,
            gflops=flops / 1e9,
            **{key: _claimed(entry, weights, metric) for key, metric in _METRICS.items()},
            licence=weights.licence,
            languages=entry.training.languages,
        )
        for name, weights in published(entry)
    ]


def figures(weights: Weights) -> str:
    """What is compared, in a line; empty: nobody published anything of it."""
    names = {metric: name for name, metric in zip(_HEADS, _METRICS.values(), strict=True)}
    known = (claim for claim in weights.claims if claim.metric in names)
    return ", ".join(f"{names[claim.metric]} {claim.value}" for claim in known)


def _claimed(entry: Entry, weights: Weights, metric: str) -> float | None:
    """The first that somebody published."""
    claims = (*weights.claims, *entry.claims)
    return next((claim.value for claim in claims if claim.metric == metric), None)


def at_most(text: str) -> float:
    """The number that `1B`, `150M` or `86000000` means; empty: no bound. Raises ConfigError for
    others, and for none above 0.

    >>> from diptych.cli.models_table import at_most
    >>> at_most("1.5M")
    1500000.0
    """
    if not text:
        return math.inf
    unit = _UNITS.get(text[-1].upper(), 1)
    try:
        most = float(text if unit == 1 else text[:-1]) * unit
    except ValueError:
        most = math.nan
    if not 0 < most < math.inf:
        raise ConfigError(f"--under {text} is no number such as 150M or 1B")
    return most


def chosen(found: Iterable[Row], key: Key, under: str, gflops: float, licence: str) -> list[Row]:
    """Those within the bounds whose licence matches the pattern, the best first, or the smallest;
    those without a figure come last."""
    most, pattern = at_most(under), licence.lower() or "*"
    kept = [
        row
        for row in found
        if row.parameters <= most
        and row.gflops <= (gflops or math.inf)
        and fnmatch.fnmatchcase(row.licence.lower(), pattern)
    ]
    small = key in ("parameters", "gflops")
    return sorted(kept, key=lambda row: _order(getattr(row, key or "imagenet"), small))


def _order(value: float | None, small: bool) -> tuple[bool, float]:
    return value is None, (value or 0.0) * (1 if small else -1)


def print_table(found: list[Row]) -> None:
    """The lines, and what is best for whom."""
    table = Names("weights", "size", "parameters", "GFLOPs", *_HEADS, "licence")
    for column in table.columns[1:7]:
        column.justify = "right"
    for row in found:
        figures = ("—" if value is None else f"{value:.1f}" for value in row[4:7])
        size = (str(row.image_size), f"{row.parameters / 1e6:,.1f} M", f"{row.gflops:,.1f}")
        table.add_row(row.name, *size, *figures, row.licence)
    show(table)
    say(
        "ImageNet: zero-shot top-1; DataComp-38: the mean of its sets; COCO: its pictures by texts,"
    )
    say("recall at 5. As published: diptych models NAME says by whom.")
    for sentence in picks(found):
        say(sentence)


_FOR: tuple[tuple[str, str, Callable[[Row], bool]], ...] = (
    ("fast on a CPU (below 12 GFLOPs)", "imagenet", lambda row: row.gflops < 12),
    ("best below 150 M parameters", "imagenet", lambda row: row.parameters < 150e6),
    ("best below 1 B parameters", "imagenet", lambda row: row.parameters < 1e9),
    ("best of all", "imagenet", lambda row: True),
    ("pictures by texts", "coco", lambda row: True),
    ("texts in many languages", "imagenet", lambda row: row.languages not in ("", "English")),
    ("free for any use", "imagenet", lambda row: row.licence.startswith(("MIT", "Apache"))),
)


def picks(found: list[Row]) -> list[str]:
    """Of the lines, which is best for whom."""
    said: list[str] = []
    for use, key, fits in _FOR:
        fitting = [row for row in found if fits(row) and getattr(row, key) is not None]
        if fitting:
            best: Any = max(fitting, key=lambda row: getattr(row, key))
            said.append(f"{use}: {best.name} ({key} {getattr(best, key):.1f})")
    return said
