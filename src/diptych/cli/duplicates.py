"""diptych duplicates photos.index --threshold 0.97"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diptych.cli.filters import Filters
from diptych.cli.found_page import cell_of
from diptych.cli.parse import parse
from diptych.cli.show import Names, say, show, shown_path
from diptych.config.ranges import Filled, Range
from diptych.writable import check_file

if TYPE_CHECKING:
    from diptych.search import Duplicate, Group


@dataclass(frozen=True, kw_only=True)
class Duplicates(Filters):
    """Groups of pictures in an index that are nearly alike, and which of each could be kept.

    diptych duplicates photos.index --html duplicates.html

    The one with the most pixels (then bytes) could be kept; copies are byte for byte the same as
    another. Nothing is deleted.
    """

    index: Annotated[Positional[str], arg(metavar="X.index"), Filled("X.index")]
    """What `diptych embed` made."""
    threshold: Annotated[float, Range(-1, 1)] = 0.97
    """Cosine of two pictures from which on they are nearly alike."""
    copies: bool = False
    """Only copies: the same bytes."""
    null: bool = False
    """Paths of those that needn't be kept alone, a NUL after each, for other programs."""
    json: bool = False
    """A line of JSON for each group."""
    html: str = ""
    """Write the groups as a page to this file."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Duplicates, "duplicates", arguments)
    if options.html:
        check_file(options.html, "--html")
    from diptych.search import Index, duplicates

    index = Index.open(options.index)
    groups = duplicates(
        index,
        options.threshold,
        copies=options.copies,
        where=options.chosen(),
        progress=sys.stderr.isatty(),
    )
    if options.html:
        say(_write_page(options, groups), error=True)
    if options.json:
        for group in groups:
            say(_as_json(group))
    elif options.null:
        others = [other.picture.path for group in groups for other in group.others]
        sys.stdout.buffer.writelines(os.fsencode(path) + b"\0" for path in others)
    else:
        _print_table(groups)
    say(_summary(groups), error=True)


def _print_table(groups: "Sequence[Group]") -> None:
    table = Names("group", "", "bytes", "picture")
    for number, group in enumerate(groups, 1):
        kept = group.kept
        table.add_row(str(number), "keep", f"{kept.nbytes:,}", shown_path(kept.path))
        for other in group.others:
            picture = other.picture
            table.add_row("", _said(other), f"{picture.nbytes:,}", shown_path(picture.path))
    if groups:
        show(table)


def _said(other: "Duplicate") -> str:
    return "copy" if other.is_copy else f"{other.score:.4f}"


def _summary(groups: "Sequence[Group]") -> str:
    others = [other for group in groups for other in group.others]
    copies = sum(other.is_copy for other in others)
    size = sum(other.picture.nbytes for other in others) / 1e6
    return (
        f"{len(groups):,} groups; beside what could be kept of each, {len(others):,} pictures "
        f"({size:,.1f} MB), {copies:,} of them copies, byte for byte; nothing is deleted"
    )


def _as_json(group: "Group") -> str:
    others = [
        {"path": other.picture.path, "score": round(other.score, 6), "copy": other.is_copy}
        for other in group.others
    ]
    return json.dumps({"keep": group.kept.path, "others": others})


def _write_page(options: Duplicates, groups: "Sequence[Group]") -> Path:
    from diptych import reports

    rows = list[reports.GridRow]()
    for number, group in enumerate(groups, 1):
        others = [cell_of(other.picture, _said(other)) for other in group.others]
        cells = [cell_of(group.kept, "keep"), *others]
        rows.append(reports.GridRow(query=f"group {number}", cells=cells))
    note = (
        "The first of each group has the most pixels, or bytes. Numbers are cosines with it; below "
        f"{options.threshold:g} where pictures are near others of the group. Copies are the same, "
        "byte for byte."
    )
    grid = reports.grid("", rows, note, side=240)
    return reports.write(options.html, "Duplicates", [grid], subtitle=_summary(groups))
