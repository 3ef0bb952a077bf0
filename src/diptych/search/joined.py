"""Tables of what else is known of pictures: their columns go to the pictures that they name."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from diptych.data.delimited import DelimitedRows
from diptych.data.json_rows import open_json
from diptych.data.pictures import without_number
from diptych.data.rows import IMAGE_COLUMNS, Columns
from diptych.data.tables import TABLE_ENDINGS
from diptych.errors import ConfigError, DataError
from diptych.search import meta
from diptych.search.columns import (
    clean,
    column_of,
    inferred,
    plain,
    read_table,
    rows_of,
    with_columns,
    write_table,
)
from diptych.search.metadata import Metadata, complete
from diptych.search.store import Store

_KEYS = (*IMAGE_COLUMNS, "key", "__key__", "name", "id", "uid")
"""Columns that may name pictures, where nobody says which does."""
_COLUMNS = 1000
"""Of a table: it takes rows times columns, and each row of JSON may have names of its own."""
_AMBIGUOUS = -2
_UNKNOWN = -1


@dataclass(frozen=True)
class Joined:
    """What became of a table's rows."""

    column: str
    """That named the pictures."""
    columns: tuple[str, ...]
    """That were added."""
    pictures: int
    """Of which a row was found."""
    unknown: int
    """Rows that name no picture of the index."""
    ambiguous: int
    """Rows whose names several pictures have."""


def open_table(path: str | os.PathLike[str]) -> Any:
    """A csv, tsv, json, jsonl or parquet file as a table of Arrow's. Raises DataError.

    >>> import tempfile
    >>> from diptych.search.joined import open_table
    >>> path = Path(tempfile.mkdtemp(), "table.csv")
    >>> _ = path.write_text("file,year\\na.jpg,2020\\n")
    >>> open_table(path).to_pylist()
    [{'file': 'a.jpg', 'year': 2020}]
    """
    import pyarrow

    check_table(path)
    path = Path(path)
    kind = path.suffix.lower()
    if kind == ".parquet":
        return plain(read_table(path))
    of_texts = kind in (".csv", ".tsv")
    rows = DelimitedRows(path, Columns(images=_KEYS, captions=())) if of_texts else open_json(path)
    found = [rows[number] for number in range(len(rows))]
    names = dict.fromkeys(name for row in found for name in row)
    if len(names) > _COLUMNS:
        raise DataError(f"{path} has {len(names):,} columns; at most {_COLUMNS:,} are read")
    make = inferred if of_texts else column_of
    columns = dict[str, Any]()
    for name in names:
        columns.setdefault(clean(name), make([row.get(name) for row in found]))
    return pyarrow.table(columns)


def check_table(path: str | os.PathLike[str]) -> None:
    """Raises DataError for what can't be a table."""
    path = Path(path)
    if path.suffix.lower() not in TABLE_ENDINGS:
        raise DataError(f"{path} is no table: its name must end in {', '.join(TABLE_ENDINGS)}")
    if not path.is_file():
        raise DataError(f"there is no table {path}")


def join(folder: str | os.PathLike[str], table: str | os.PathLike[str], column: str = "") -> Joined:
    """Add a table's columns to what the index in `folder` knows of its pictures.

    A row belongs to the picture that `column` names (by default the first of some usual names): by
    its path, from the table's folder, or by the last parts of it that only one picture has, with
    its ending or without. Of several rows of a picture the first counts. What was known of others
    stays. Raises DataError for a table that can't be read or names no picture, ConfigError for a
    column that isn't there.

    >>> import tempfile
    >>> from PIL import Image
    >>> from diptych import Encoder, Index, models, pretrained, search
    >>> folder = tempfile.mkdtemp()
    >>> Image.new("RGB", (60, 40)).save(f"{folder}/a.png")
    >>> _ = Path(folder, "table.csv").write_text("file,year\\na.png,2020\\n")
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> index = Index.build(f"{folder}/index", folder, encoder)
    >>> search.join(index.folder, f"{folder}/table.csv").columns
    ('year',)
    """
    found = open_table(table)
    key = column or Columns(images=_KEYS, captions=()).image(found.column_names)
    if key not in found.column_names:
        flag = f"it has no column {key}" if key else "none of its columns names pictures"
        said = ", ".join(found.column_names[:20])
        raise ConfigError(f"{table}: {flag}, only {said}; say which does: --metadata-key COLUMN")
    columns = [name for name in found.column_names if name not in (key, "path")]
    with meta.locked(folder):
        complete(folder)
        store = Store(folder)
        names = _Names(Metadata(store))
        start = os.path.dirname(os.path.abspath(table))
        places = [names.find(str(name), start) for name in found[key].to_pylist()]
        rows = np.full(len(store), -1)
        for place, row in reversed(list(enumerate(places))):
            if row >= 0:
                rows[row] = place
        if not (rows >= 0).any():
            raise DataError(
                f"{table} names no picture of {folder} in its column {key}, which begins with "
                f"{found[key][0] if len(found) else 'nothing'}; say another: --metadata-key COLUMN"
            )
        known = with_columns(Metadata(store).table, rows_of(found.select(columns), rows))
        write_table(meta.metadata_path(store.folder, store.meta), known)
    return Joined(
        column=key,
        columns=tuple(columns),
        pictures=int((rows >= 0).sum()),
        unknown=places.count(_UNKNOWN),
        ambiguous=places.count(_AMBIGUOUS),
    )


class _Names:
    """Pictures by their paths, and by the last parts of these."""

    def __init__(self, metadata: Metadata):
        places = [column.to_pylist() for column in metadata.places]
        self._paths = list(zip(*places, strict=True))
        self._whole = dict[str, int]()
        for row, paths in enumerate(self._paths):
            self._whole |= dict.fromkeys(paths, row)
        self._ends = dict[tuple[int, bool], dict[str, int]]()

    def find(self, name: str, start: str) -> int:
        """The row of a name in a table that lies in the folder `start`."""
        name = without_number(name if "/" in name else name.replace("\\", "/"))
        whole = os.path.normpath(os.path.join(start, name))
        if whole in self._whole:
            return self._whole[whole]
        parts = PurePath(name).parts
        for without_ending in (False, True):
            end = self._of_length(len(parts), without_ending)
            if (row := end.get("/".join(parts), _UNKNOWN)) != _UNKNOWN:
                return row
        return _UNKNOWN

    def _of_length(self, length: int, without_ending: bool) -> dict[str, int]:
        """The last parts of paths, so many, and the only picture that has them."""
        if (length, without_ending) not in self._ends:
            ends = self._ends[length, without_ending] = dict[str, int]()
            for row, paths in enumerate(self._paths):
                path = os.path.splitext(paths[0])[0] if without_ending else paths[0]
                end = "/".join(path.split("/")[-length:])
                ends[end] = _AMBIGUOUS if end in ends else row
        return self._ends[length, without_ending]
