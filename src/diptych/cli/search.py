"""diptych search photos.index "a dog on the beach" --top 12"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diptych.cli.parse import parse
from diptych.cli.show import Names, say, show, shown_path
from diptych.config.ranges import Filled, Patches, Pixels, Some
from diptych.errors import ImageError
from diptych.writable import check_file

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.reports import Section
    from diptych.search import Hit, Index


@dataclass(frozen=True, kw_only=True)
class Search:
    """Find pictures in an index by a text, or by a picture.

    diptych search photos.index "a dog on the beach" --top 12 --html dogs.html
    """

    index: Annotated[Positional[str], arg(metavar="X.index"), Filled("X.index")]
    """What `diptych embed` made."""
    query: Annotated[Positional[str], arg(metavar="QUERY")]
    """A text, or the path of a picture (SHARD.tar/KEY.jpg of one in a shard)."""
    top: Some = 12
    """How many."""
    model: str = ""
    """Where the index's model lies now, if it has moved."""
    config: str = ""
    """How the model is built, as `diptych embed` was told."""
    image_size: Pixels | None = None
    """Side of the pictures, as `diptych embed` was told."""
    patches: Patches | None = None
    """The most patches of a picture, as `diptych embed` was told."""
    paths_only: bool = False
    """Paths alone, one a line, for other programs."""
    null: bool = False
    """Paths alone, a NUL after each (for xargs -0): names with a line break, too."""
    html: str = ""
    """Write the pictures found as a page to this file."""
    device: str | None = None
    """cpu, cuda or cuda:N; by default the GPU if there is one."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Search, "search", arguments)
    if options.html:
        check_file(options.html, "--html")
    index = _open(options)
    vector = index.encode(options.query)
    hits = index.search(vector, options.top)
    if not hits:
        say(f"{options.index} holds no pictures", error=True)
    if options.html:
        page = _write_page(options, hits, index, index.median_score(vector) if hits else 0.0)
        say(page, error=True)
    if options.paths_only and sys.stdout.isatty():
        for hit in hits:
            say(shown_path(hit.path))
    elif options.paths_only or options.null:
        # Bytes: a file name need not be text.
        end = b"\0" if options.null else b"\n"
        sys.stdout.buffer.writelines(os.fsencode(hit.path) + end for hit in hits)
    else:
        _print_table(hits)


def _open(options: Search) -> "Index":
    from diptych.encoder import load
    from diptych.search import Index

    index = Index.open(options.index, device=options.device)
    if not (options.model or options.config or options.image_size or options.patches):
        return index
    encoder = load(
        options.model or index.made_by.name,
        options.device,
        index.made_by.dtype,
        config=options.config or None,
        image_size=options.image_size,
        patches=options.patches,
    )
    return Index.open(options.index, encoder)


def _print_table(hits: "list[Hit]") -> None:

    table = Names("", "score", "picture")
    for rank, hit in enumerate(hits, 1):
        gone = "" if os.path.exists(hit.picture.file) else " (gone)"
        table.add_row(str(rank), f"{hit.score:.4f}", shown_path(hit.path) + gone)
    show(table)


def _write_page(options: Search, hits: "list[Hit]", index: "Index", median: float) -> Path:
    from diptych import reports

    made_by = index.made_by
    about = [
        ("query", options.query),
        ("model", f"{shown_path(options.model or made_by.name)} ({made_by.dtype})"),
        ("index", f"{shown_path(options.index)}, {len(index):,} pictures"),
        ("date", f"{datetime.now():%Y-%m-%d %H:%M}"),
        ("median score of all its pictures", f"{median:.3f}"),
    ]
    hint = (
        "The score is the cosine of the angle between the vectors of query and picture, from -1 to "
        "1. Scores of one query compare; those of another model or another kind of query don't: "
        "with most models a text that fits a picture has 0.2 to 0.35, and a picture that looks "
        "like the query 0.6 to 1. What matters is how far a hit lies above the median."
    )
    return reports.write(
        options.html,
        f"“{options.query}”",
        [_found(hits), reports.facts("How it was found", about, note=hint)],
        subtitle=f"The nearest {len(hits)} of {len(index):,} pictures",
    )


def _found(hits: "list[Hit]") -> "Section":
    from diptych import reports

    cells = list[reports.Cell]()
    for rank, hit in enumerate(hits, 1):
        picture = _picture(hit)
        cells.append(
            reports.Cell(
                image=picture,
                text=f"{rank}. score {hit.score:.3f}",
                detail=shown_path(hit.path) + ("" if picture else " (can't be read any more)"),
                link=Path(hit.path).as_uri() if picture and not hit.picture.shard else "",
            )
        )
    return reports.hits(cells)


def _picture(hit: "Hit") -> "Image | None":
    """The picture as the model saw it: upright, in RGB; None if it is gone."""
    from PIL.Image import fromarray

    from diptych.inputs import decode

    try:
        data = hit.picture.read()
        return fromarray(decode(data).permute(1, 2, 0).numpy())
    except (OSError, ImageError):
        return None
