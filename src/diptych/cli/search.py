"""diptych search photos.index "a dog on the beach" --top 12"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diptych.cli.parse import parse
from diptych.cli.show import show
from diptych.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.search import Hit


@dataclass(frozen=True, kw_only=True)
class Search:
    """Find pictures in an index by a text, or by a picture.

    diptych search photos.index "a dog on the beach" --top 12 --html dogs.html
    """

    index: Annotated[Positional[str], arg(metavar="X.index")]
    """What `diptych embed` made."""
    query: Annotated[Positional[str], arg(metavar="QUERY")]
    """A text, or the path of a picture."""
    top: int = 12
    """How many."""
    paths_only: bool = False
    """Paths alone, one a line, for other programs."""
    html: str = ""
    """Write the pictures found as a page to this file."""
    device: str | None = None
    """cpu, cuda or cuda:N; by default the GPU if there is one."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Search, "search", arguments)

    from diptych.search import Index

    hits = Index.open(options.index, device=options.device).search(options.query, options.top)
    if options.html:
        _write_page(options, hits)
    if options.paths_only:
        # Bytes: a file name need not be text.
        sys.stdout.buffer.writelines(os.fsencode(hit.path) + b"\n" for hit in hits)
    else:
        _print_table(hits)


def _print_table(hits: "list[Hit]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("", "score", "picture", box=None)
    for rank, hit in enumerate(hits, 1):
        table.add_row(str(rank), f"{hit.score:.4f}", Text(_show(hit.path), overflow="fold"))
    show(table)


def _show(path: str) -> str:
    """Relative to here where it lies below; as text, whatever its bytes."""
    here = os.getcwd()
    if path.startswith(here + os.sep):
        path = os.path.relpath(path, here)
    return os.fsencode(path).decode(errors="replace")


def _write_page(options: Search, hits: "list[Hit]") -> None:
    from diptych import reports

    cells = [
        reports.Cell(image=_open(hit), text=f"{hit.score:.3f} {_show(hit.path)}") for hit in hits
    ]
    section = reports.pictures(
        options.query, cells, note=f"The nearest {len(hits)} in {options.index}.", side=240
    )
    page = reports.write(options.html, f"Search: {options.query}", [section])
    print(page, file=sys.stderr)


def _open(hit: "Hit") -> "Image":
    """The picture as the model saw it: upright, in RGB."""
    from PIL.Image import fromarray

    from diptych.inputs import decode

    try:
        data = hit.picture.read()
    except OSError as error:
        raise DataError(
            f"{_show(hit.path)} can't be read any more ({error.strerror}); embed its folder again"
        ) from error
    return fromarray(decode(data).permute(1, 2, 0).numpy())
