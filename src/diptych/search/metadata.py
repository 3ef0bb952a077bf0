"""What an index knows of each picture beside its vector: columns to filter by, and to show.

column                  comes from
----------------------  ----------------------------------------------------------------------------
path, bytes             the entry
date                    EXIF (`taken`); of a file without it, when it was last written
width, height, pixels   the header, of the picture upright
camera                  EXIF: make and model
caption, all others     `KEY.txt` and `KEY.json` beside the picture; tables that were joined

They stand in `metadata-G.parquet`, a row for each of the index's, in their order; fewer rows than
the index has where an update was stopped, none in an index of before. The next update adds them.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from diptych.encoder.progress import track
from diptych.errors import DataError, ImageError, UnknownNameError
from diptych.inputs.header import read_header
from diptych.search.beside import Places, read_beside, with_neighbours
from diptych.search.columns import Kind, clean, column_of, kind_of, rows_of, stacked, write_table
from diptych.search.entries import absolute, lengths, written
from diptych.search.meta import metadata_path, places_of
from diptych.search.pictures import Picture
from diptych.search.store import Store
from diptych.threads import ahead

_THREADS, _AHEAD = 8, 512
_PART = 4096
"""Pictures whose columns are made together."""
_MOST = 256
"""Columns; more, as of JSON whose names are values, are left out."""
_MADE: dict[str, Kind] = {"path": "text", "bytes": "number", "date": "date", "pixels": "number"}
"""Columns that aren't written down, but made of others."""
_HEADER = ("width", "height", "taken", "camera")


class Metadata:
    """The columns of an index, as its files are now."""

    def __init__(self, store: Store):
        self._store = store

    @property
    def rows(self) -> int:
        """Of the index."""
        return len(self._store)

    @cached_property
    def places(self) -> list[Any]:
        """Columns of absolute paths: where each picture is. In an index that was moved, it may be
        beside the index, or where it was."""
        places, paths = places_of(self._store.folder, self._store.meta), self.column("path")
        folders = [places.now, places.then] if places.then not in ("", places.now) else [places.now]
        return [absolute(paths, folder) for folder in folders]

    @cached_property
    def table(self) -> Any:
        """What is written down, with as many rows as the index has."""
        import pyarrow

        known, rows = self._store.metadata, len(self._store)
        if known is None:
            known = pyarrow.table({"taken": pyarrow.nulls(0, pyarrow.timestamp("s"))})
        elif "taken" not in known.column_names:  # of an index that was imported
            nothing = pyarrow.nulls(len(known), pyarrow.timestamp("s"))
            known = known.append_column("taken", nothing)
        unknown = [-1] * (rows - len(known))
        return stacked([known, rows_of(known, unknown)]) if unknown else known

    @property
    def _is_known(self) -> bool:
        """Whether the sizes of its pictures are known."""
        sides = [name for name in self.table.column_names if name in ("width", "height")]
        return [kind_of(self.table[name]) for name in sides] == ["number", "number"]

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """Column -> number, text, date or truth; only columns in which something is known."""
        found: dict[str, Kind] = {**_MADE}
        if not self._is_known:
            del found["pixels"]
        for name, column in zip(self.table.column_names, self.table.columns, strict=True):
            kind = kind_of(column)
            if kind and column.null_count < len(column):
                found[name] = kind
        return found

    def column(self, name: str) -> Any:
        """A column of Arrow's, a value for each row. Raises UnknownNameError."""
        if name in self.table.column_names:
            return self.table[name]
        if name not in self.kinds:
            raise UnknownNameError("column", name, self.kinds)
        import pyarrow
        from pyarrow.compute import call_function

        match name:
            case "path":
                return call_function("coalesce", [self._store.entries["path"], pyarrow.scalar("")])
            case "bytes":
                return lengths(self._store.entries)
            case "date":
                dates, taken = written(self._store.entries), self.table["taken"]
                if kind_of(taken) != "date":
                    return dates
                taken = taken.cast(dates.type, safe=False)
                return call_function("coalesce", [taken, dates])
            case _:
                return call_function("multiply", [self.table["width"], self.table["height"]])

    def of(self, row: int) -> dict[str, object]:
        """What is written down of a row."""
        values: dict[str, object] = self.table.slice(row, 1).to_pylist()[0]
        return {name: value for name, value in values.items() if value is not None}


def complete(folder: str | os.PathLike[str], progress: bool = False) -> None:
    """Look at the pictures of which nothing is written down yet. Only for who holds the lock; when
    it is stopped, what is known by then is written."""
    store = Store(folder)
    known = store.metadata
    start = 0 if known is None else len(known)
    if start == len(store):
        return
    tables = list[Any]() if known is None else [known]
    found = ahead(_look, with_neighbours(_pictures(store, start)), _THREADS, _AHEAD)
    parts = ((rows, _table_of(rows)) for rows in _parts(found))
    try:
        for _, table in track(parts, "files", len(store) - start) if progress else parts:
            tables.append(table)
    finally:
        if tables:
            table = stacked(tables)
            write_table(metadata_path(store.folder, store.meta), table.select(_first(table)))


def _first(table: Any) -> list[str]:
    return table.column_names[:_MOST]


def _pictures(store: Store, start: int) -> Iterator[Picture | None]:
    for row in range(start, len(store)):
        try:
            yield store.picture(row)
        except DataError:
            yield None


def _parts(found: Iterable[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    part = list[dict[str, object]]()
    for values in found:
        part.append(values)
        if len(part) == _PART:
            yield part
            part = []
    if part:
        yield part


def _look(found: tuple[Picture | None, Places]) -> dict[str, object]:
    """What is beside a picture and in its header."""
    picture, places = found
    if picture is None:
        return {}
    values = read_beside(picture, places)
    try:
        header = read_header(picture.read() if picture.shard else Path(picture.path))
    except (ImageError, OSError):
        own = dict[str, object]()
    else:
        own = dict(zip(_HEADER, (header.width, header.height, header.taken, header.camera or None)))
    return {name: value for name, value in values.items() if name not in _HEADER} | own


def _table_of(rows: Sequence[Mapping[str, object]]) -> Any:
    import pyarrow

    kinds = (pyarrow.int64(), pyarrow.int64(), pyarrow.timestamp("s"), pyarrow.string())
    columns = dict[str, Any]()
    for name, kind in zip(_HEADER, kinds, strict=True):
        columns[name] = pyarrow.array([row.get(name) for row in rows], kind)
    others = dict.fromkeys(name for row in rows for name in row)
    for name in [name for name in others if name not in (*_HEADER, *_MADE)][:_MOST]:
        columns[clean(name)] = column_of([row.get(name) for row in rows])
    return pyarrow.table(columns)
