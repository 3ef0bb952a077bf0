"""diptych index export photos.index --to npy --out folder, diptych index import folder --out X"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.cli.show import say
from diptych.config.ranges import Filled
from diptych.errors import UnknownNameError
from diptych.writable import check_new, check_writable

_HELP = """usage: diptych index export X.index --to npy | faiss | usearch --out FOLDER
       diptych index import MODEL FOLDER --out X.index

Write an index for other programs, or make one of what clip-retrieval wrote. `diptych index export
--help` and `diptych index import --help` say more."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write an index for other programs: clip-retrieval's folder (npy and parquet), faiss, usearch.

    diptych index export photos.index --to faiss --out exported
    """

    index: Annotated[Positional[str], arg(metavar="X.index"), Filled("X.index")]
    """What `diptych embed` made."""
    to: Literal["npy", "faiss", "usearch"] = "npy"
    """npy: img_emb/img_emb_*.npy; faiss: image.index, exact; usearch: image.usearch, approximate.
    Beside them metadata/metadata_*.parquet."""
    out: str
    """The new folder."""


@dataclass(frozen=True, kw_only=True)
class Import(Compute):
    """Make an index of a folder that clip-retrieval wrote: embeddings (img_emb/*.npy,
    text_emb/*.npy, metadata/*.parquet), or an index (image.index, metadata/*.parquet).

    diptych index import ViT-B-32.pt embeddings/ --out photos.index

    Whether the model made these vectors is seen by some of the pictures, if they are there.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL"), Filled("MODEL")]
    """The model that made the vectors."""
    source: Annotated[Positional[str], arg(metavar="FOLDER"), Filled("FOLDER")]
    """What clip-retrieval wrote."""
    out: Annotated[str, arg(metavar="X.index")]
    """The new index."""
    texts: bool = False
    """An index of the texts; without, of the pictures, if there are any."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    what, *rest = arguments or ["--help"]
    match what:
        case "export":
            _export(parse(Export, "index export", rest))
        case "import":
            _import(parse(Import, "index import", rest))
        case "-h" | "--help" | "--help-all":
            print(_HELP)
        case _:
            raise UnknownNameError("verb of an index", what, ("export", "import"))


def _export(options: Export) -> None:
    check_new(options.out, "--out")
    from diptych.search import Index
    from diptych.search.export import export

    say(export(Index.open(options.index), options.out, options.to))


def _import(options: Import) -> None:
    check_writable(options.out, "--out")
    from diptych.search import Index
    from diptych.search.imported import import_index

    encoder = options.load(options.model)
    holds = "texts" if options.texts else None
    count = import_index(options.out, options.source, encoder, holds)
    say(f"{options.out}: {count:,} {Index.open(options.out).holds}")
