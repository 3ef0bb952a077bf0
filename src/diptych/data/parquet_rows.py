"""Rows of parquet files."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.data.files import file_version
from diptych.data.rows import Columns, Rows
from diptych.data.source import BadSample
from diptych.data.spool import make_once
from diptych.errors import DataError, first_line

_ROWS, _BATCH = 1024, 1 << 26
"""Rows of a parquet file, and their bytes, that are unpacked at once."""
_UNPACKED, _RATIO = 2 << 30, 100
"""Bytes to which any parquet file may be unpacked, and to how many times its own size."""
_IN_MEMORY = 1 << 30


class ParquetRows(Rows):
    """The wanted columns of a parquet file through an uncompressed copy in the cache,
    memory-mapped, because parquet itself can only be unpacked by whole row groups."""

    def __init__(self, path: Path, wanted: Columns, cache: Path):
        self._arguments = (path, wanted, cache)
        self.columns, self._table, lost = _open_parquet(path, wanted, cache)
        self.bad_samples = tuple(
            BadSample(str(path), f"lost row {number + 1} of {lost}", "it lies in a damaged page")
            for number in range(lost)
        )
        self._columns = {name: self._table[name] for name in self._table.column_names}

    def __reduce__(self):
        return (ParquetRows, self._arguments)

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {name: self.value(index, name) for name in self._columns}

    def value(self, index: int, column: str) -> Any:
        try:
            return self._columns[column][index].as_py() if column in self._columns else None
        except (ValueError, OSError) as error:  # text that isn't UTF-8, a page cut off
            raise DataError(f"the row can't be read: {first_line(error)}") from None


def _open_parquet(path: Path, wanted: Columns, cache: Path) -> tuple[tuple[str, ...], Any, int]:
    """Column names, the wanted columns as a memory-mapped table (in memory, when the cache can't be
    written), and how many rows it lacks."""
    import pyarrow
    from pyarrow import parquet

    file = parquet.ParquetFile(path, memory_map=True)
    names: list[str] = file.schema_arrow.names
    plain = {wanted.image(names), wanted.label(names), wanted.split(names), wanted.id(names)}
    used = plain | set(wanted.caption_columns(names))
    chosen = [name for name in names if name in used and names.count(name) == 1]

    schema = pyarrow.schema([file.schema_arrow.field(name) for name in chosen])

    def copy(target: Path) -> None:
        with pyarrow.ipc.new_file(str(target), schema) as writer:
            room = max(_UNPACKED, _RATIO * path.stat().st_size)
            for rows in _unpacked(file, path, chosen, room):
                writer.write_batch(rows)

    try:
        stored = make_once(cache / "tables" / f"{file_version(path, *chosen)}.arrow", copy)
        table = pyarrow.ipc.open_file(pyarrow.memory_map(str(stored))).read_all()
    except OSError:
        rows = list(_unpacked(file, path, chosen, _IN_MEMORY))
        table = pyarrow.Table.from_batches(rows, schema)
    if len(table) == 0 and file.metadata.num_rows:
        raise DataError(f"{path} can't be read: all its pages are damaged")
    return tuple(names), table, file.metadata.num_rows - len(table)


def _unpacked(file: Any, path: Path, columns: list[str], room: int) -> Iterator[Any]:
    """The rows in batches; those of a row group after a damaged page are left out. Raises
    ValueError for more than `room` bytes."""
    import pyarrow

    for group in range(file.num_row_groups):
        try:
            longest = _longest_value(path, group, columns)
            count = max(1, min(_ROWS, _BATCH // (longest + 1)))
            for rows in file.iter_batches(count, [group], columns):
                room -= rows.nbytes
                if room < 0:
                    break
                yield rows.select(columns)
        except (pyarrow.ArrowException, OSError):
            continue
        if room < 0:
            raise ValueError("it would unpack to far more than a table of its size")


def _longest_value(path: Path, group: int, columns: Sequence[str]) -> int:
    """Bytes of the longest value in a row group's dictionaries, which each row may repeat, or of a
    row of the mean length."""
    from pyarrow import parquet
    from pyarrow.compute import call_function

    schema = parquet.read_metadata(path, memory_map=True).schema
    leaves = [schema.column(number) for number in range(len(schema.names))]
    texts = [
        leaf.path
        for leaf in leaves
        if leaf.physical_type == "BYTE_ARRAY" and leaf.path.partition(".")[0] in columns
    ]
    file = parquet.ParquetFile(path, memory_map=True, read_dictionary=texts)
    whole = file.metadata.row_group(group)
    longest = whole.total_byte_size // max(1, whole.num_rows)
    for row in itertools.islice(file.iter_batches(1, [group], list(columns)), 1):
        for values in itertools.chain.from_iterable(map(_dictionaries, row.columns)):
            lengths = call_function("binary_length", [values])
            longest = max(longest, call_function("max", [lengths]).as_py() or 0)
    return longest


def _dictionaries(column: Any) -> Iterator[Any]:
    """Those of a column of pyarrow's, at any depth."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        yield column.dictionary
    elif types.is_struct(column.type):
        for part in column.flatten():
            yield from _dictionaries(part)
    elif types.is_list(column.type) or types.is_large_list(column.type):
        yield from _dictionaries(column.values)
