"""The page of what a search has found."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.show import shown_path
from diptych.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.reports import Cell, Section
    from diptych.search import Hit, Index, Picture, Query


def write_page(
    html: str, query: "Query", hits: "Sequence[Hit]", index: "Index", among: int
) -> Path:
    """The file `html`, with the pictures found among so many."""
    from diptych import reports

    median = index.median_score(index.encode(query)) if hits else 0.0
    about = [
        ("query", str(query)),
        ("model", f"{shown_path(index.encoder.name)} ({index.made_by.dtype})"),
        ("index", f"{shown_path(str(index.folder))}, {len(index):,} pictures"),
        ("date", f"{datetime.now():%Y-%m-%d %H:%M}"),
        ("median score of all its pictures", f"{median:.3f}"),
    ]
    hint = (
        "The score is the cosine of the angle between the vectors of query and picture, from -1 to "
        "1. Scores of one query compare; those of another model or another kind of query don't: "
        "with most models a text that fits a picture has 0.2 to 0.35, and a picture that looks "
        "like the query 0.6 to 1. The vector of several together is the sum of theirs, times their "
        "weights, scaled to length 1. What matters is how far a hit lies above the median."
    )
    return reports.write(
        html,
        f"“{query}”",
        [_found(hits), reports.facts("How it was found", about, note=hint)],
        subtitle=f"The nearest {len(hits)} of {among:,} pictures",
    )


def _found(hits: "Sequence[Hit]") -> "Section":
    from diptych import reports

    return reports.hits(
        [cell_of(hit.picture, f"{rank}. score {hit.score:.3f}") for rank, hit in enumerate(hits, 1)]
    )


def cell_of(picture: "Picture", text: str) -> "Cell":
    """A picture of an index with a line of text, and its path below, which leads to the file."""
    from diptych import reports

    image = None if picture.text else _image(picture)
    gone = "" if image or picture.text else " (can't be read any more)"
    return reports.Cell(
        image=image,
        text=f"{text}: {picture.text}" if picture.text else text,
        detail=shown_path(picture.path) + gone,
        link=Path(picture.path).as_uri() if image and not picture.shard else "",
    )


def _image(picture: "Picture") -> "Image | None":
    """The picture as the model saw it: upright, in RGB; None if it is gone."""
    from PIL.Image import fromarray

    from diptych.inputs import decode

    try:
        data = picture.read()
        return fromarray(decode(data).permute(1, 2, 0).numpy())
    except (OSError, ImageError):
        return None
