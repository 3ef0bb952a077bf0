"""What clip-retrieval's folders hold, part by part: vectors, and a table of as many rows.

`clip_inference` writes img_emb/img_emb_*.npy, text_emb/text_emb_*.npy and metadata/*.parquet;
`clip_index` makes image.index and text.index of them, which are faiss's, and copies the metadata.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diptych.arrays import map_npy
from diptych.bounded import little_memory, parse_json
from diptych.errors import ConfigError, DataError, first_line
from diptych.search.columns import clean, column_of, plain, read_table, stacked

Part = tuple[np.ndarray, Any]
Holds = Literal["pictures", "texts"]

_SPARE = 1 << 30
"""Bytes of memory that reading an index takes beside its vectors, at most."""
_MOST = 256
"""Columns that the JSON in a column may become."""
_NAMES = {"pictures": ("img", "image"), "texts": ("text", "text")}
"""Of each, of the folder and of the index."""


def held(source: Path) -> Holds:
    """What a folder's vectors are of; pictures, where it has both. Raises DataError for a folder
    that isn't clip-retrieval's."""
    for holds in ("pictures", "texts"):
        if _files(source, holds) or _index(source, holds).is_file():
            return holds
    raise DataError(
        f"{source} isn't clip-retrieval's: it has neither img_emb/img_emb_0.npy nor "
        "text_emb/text_emb_0.npy, image.index nor text.index"
    )


def read_parts(source: Path, holds: Holds) -> list[Part]:
    """Its vectors of these, and what is known of them. Raises DataError for files that can't be
    read or don't belong together."""
    tables = {_number(path): path for path in source.glob("metadata/metadata_*.parquet")}
    files = _files(source, holds)
    if not files:
        return [_of_index(_index(source, holds), [tables[number] for number in sorted(tables)])]
    found = list[Part]()
    for file in files:
        number = _number(file)
        if number not in tables:
            raise DataError(f"{file} has no metadata/metadata_{number}.parquet beside it")
        try:
            vectors = map_npy(file)
        except (OSError, ValueError) as error:
            raise DataError(f"{file} can't be read: {error}") from None
        if vectors.ndim != 2 or vectors.dtype.kind != "f":
            raise DataError(f"{file} holds {list(vectors.shape)} of {vectors.dtype}, no vectors")
        found.append(_together(file, vectors, _columns(read_table(tables[number]))))
    return found


def _files(source: Path, holds: Holds) -> list[Path]:
    kind, _ = _NAMES[holds]
    return sorted(source.glob(f"{kind}_emb/{kind}_emb_*.npy"), key=_number)


def _index(source: Path, holds: Holds) -> Path:
    return source / f"{_NAMES[holds][1]}.index"


def _of_index(file: Path, tables: list[Path]) -> Part:
    try:
        faiss: Any = import_module("faiss")
    except ImportError:
        raise ConfigError(
            f"{file} is an index of faiss's: pip install faiss-cpu, or name the folder of "
            "embeddings that it was made of"
        ) from None
    if not tables:
        raise DataError(f"{file} has no metadata/metadata_0.parquet beside it")
    try:
        # A damaged file may speak of more vectors than any machine holds.
        with little_memory(_SPARE + 4 * file.stat().st_size):
            vectors = _vectors(faiss, file)
    except (OSError, RuntimeError, MemoryError) as error:
        reason = first_line(error) or "it asks for more memory than its vectors would need"
        raise DataError(f"{file} can't be read: {reason}") from None
    return _together(file, vectors, stacked([_columns(read_table(each)) for each in tables]))


def _vectors(faiss: Any, file: Path) -> np.ndarray:
    index = faiss.read_index(str(file))
    if not isinstance(index, (faiss.IndexFlat, faiss.IndexHNSWFlat, faiss.IndexIVFFlat)):
        raise DataError(
            f"{file} holds quantised vectors ({type(index).__name__}); name the folder of "
            "embeddings that it was made of"
        )
    if isinstance(index, faiss.IndexIVFFlat):
        index.make_direct_map()
    return index.reconstruct_n(0, index.ntotal)


def _together(file: Path, vectors: np.ndarray, table: Any) -> Part:
    if len(table) != len(vectors):
        raise DataError(
            f"{file} holds {len(vectors):,} vectors, and its metadata tells of {len(table):,} rows"
        )
    return vectors, table


def _number(path: Path) -> int:
    digits = re.search(r"(\d+)$", path.stem)
    return int(digits[1]) if digits else -1


def _columns(table: Any) -> Any:
    """What is known, with the values of the JSON that the column `metadata` holds."""
    table = plain(table)
    if "metadata" not in table.column_names:
        return table
    rows = [_values(text) for text in table["metadata"].to_pylist()]
    table = table.drop_columns(["metadata"])
    for name in list(dict.fromkeys(name for row in rows for name in row))[:_MOST]:
        if name not in table.column_names:
            table = table.append_column(clean(name), column_of([row.get(name) for row in rows]))
    return table


def _values(text: object) -> dict[str, object]:
    try:
        found = parse_json(text) if isinstance(text, str) else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
