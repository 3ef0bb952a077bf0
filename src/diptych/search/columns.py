"""Columns of numbers, texts, dates and truths: what is known of pictures beside their vectors.

A table of them is a `pyarrow.Table`, on the disk a parquet file whose pages have checksums.
"""

import contextlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diptych.durable import write_file
from diptych.errors import DataError, first_line

Kind = Literal["number", "text", "date", "truth", "nothing"]
"""`nothing`: no value is known of any row."""
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d{1,17})?(e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?", re.ASCII)
_UNPACKED, _RATIO = 2 << 30, 100
"""Bytes to which any parquet file may be unpacked, and to how many times its own size."""
_WHOLE = range(-(2**63), 2**63)


def kind_of(column: Any) -> Kind | None:
    """Of a column; None: of values that aren't kept, such as lists."""
    from pyarrow import types

    kind = column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_timestamp(kind) or types.is_date(kind):
        return "date"
    return "truth" if types.is_boolean(kind) else "nothing" if types.is_null(kind) else None


def column_of(values: Sequence[object]) -> Any:
    """A column from Python's values: numbers, texts and truths are kept, all others are nothing.
    Of several kinds, all are texts.

    >>> from diptych.search.columns import column_of
    >>> column_of([2020, None, "A", ["B"]]).to_pylist(), column_of([1, 2.5]).to_pylist()
    (['2020', None, 'A', None], [1.0, 2.5])
    """
    import pyarrow

    kept = [value if isinstance(value, bool | int | float | str) else None for value in values]
    kinds = {type(value) for value in kept if value is not None}
    if kinds <= {bool}:
        return pyarrow.array(kept, pyarrow.bool_() if kinds else pyarrow.null())
    if kinds == {int} and all(value is None or value in _WHOLE for value in kept):
        return pyarrow.array(kept, pyarrow.int64())
    if kinds <= {int, float}:
        numbers = [None if value is None else float(value) for value in kept]
        return pyarrow.array(numbers, pyarrow.float64())
    return pyarrow.array([None if value is None else clean(value) for value in kept])


def inferred(texts: Sequence[str | None]) -> Any:
    """A column of numbers or of dates, if each of the texts is one (an empty one is nothing), else
    of the texts. Numbers with zeros before them are names.

    >>> from diptych.search.columns import inferred
    >>> inferred(["1", "", "2.5"]).to_pylist(), inferred(["007", "1"]).to_pylist()
    ([1.0, None, 2.5], ['007', '1'])
    """
    import pyarrow

    known = [None if text is None or not text.strip() else text.strip() for text in texts]
    if all(text is None or _NUMBER.fullmatch(text) for text in known):
        whole = all(text is None or text.lstrip("-").isdigit() for text in known)
        number = int if whole else float
        return column_of([None if text is None else number(text) for text in known])
    if all(text is None or _DATE.fullmatch(text) for text in known):
        with contextlib.suppress(pyarrow.ArrowInvalid):  # a month 13
            return pyarrow.array(known).cast(pyarrow.timestamp("s"))
    return column_of(known)


def clean(value: object) -> str:
    """As text that can be written: bytes of file names that are none are replaced."""
    return str(value).encode("utf-8", "replace").decode()


def plain(table: Any) -> Any:
    """A table's columns of the kinds that are kept; of two of one name, the first."""
    import pyarrow

    found = dict[str, Any]()
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pyarrow.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = kind_of(column)
        if kind in ("number", "truth"):
            found.setdefault(name, column)
        elif kind == "text":
            found.setdefault(name, column.cast(pyarrow.string()))
        elif kind == "date":
            found.setdefault(name, column.cast(pyarrow.timestamp("s"), safe=False))
    return pyarrow.table(found)


def stacked(tables: Sequence[Any]) -> Any:
    """One below the other, with all columns that any of them has. A column of several kinds is of
    texts."""
    import pyarrow

    kinds = defaultdict[str, set[Kind | None]](set)
    for table in tables:
        for name, column in zip(table.column_names, table.columns, strict=True):
            kinds[name].add(kind_of(column))
    mixed = {name for name, several in kinds.items() if len(several - {"nothing"}) > 1}
    return pyarrow.concat_tables(
        [_as_texts(table, mixed) for table in tables], promote_options="permissive"
    )


def _as_texts(table: Any, names: set[str]) -> Any:
    import pyarrow

    for name in names & set(table.column_names):
        text = table[name].cast(pyarrow.string())
        table = table.set_column(table.column_names.index(name), name, text)
    return table


def rows_of(table: Any, rows: Sequence[int] | np.ndarray) -> Any:
    """Some rows of a table, in this order; -1 is a row of which nothing is known."""
    import pyarrow

    wanted = np.asarray(rows, np.int64)
    return table.take(pyarrow.array(wanted, mask=wanted < 0))


def with_columns(known: Any, new: Any) -> Any:
    """With the columns of a table of as many rows; where it knows nothing, what was known stays."""
    from pyarrow.compute import call_function

    for name, column in zip(new.column_names, new.columns, strict=True):
        if name not in known.column_names:
            known = known.append_column(name, column)
            continue
        both = stacked([new.select([name]), known.select([name])])[name]
        either = call_function("coalesce", [both.slice(0, len(new)), both.slice(len(new))])
        known = known.set_column(known.column_names.index(name), name, either)
    return known


def read_table(path: Path) -> Any:
    """Raises DataError for a file that can't be read, is damaged, or would take too much memory."""
    import pyarrow
    from pyarrow import parquet

    try:
        about = parquet.read_metadata(path)
        groups = map(about.row_group, range(about.num_row_groups))
        unpacked = sum(group.total_byte_size for group in groups)
        if unpacked > max(_UNPACKED, _RATIO * path.stat().st_size):
            raise ValueError(f"it says that it unpacks to {unpacked:,} bytes")
        table = parquet.read_table(path, page_checksum_verification=True)
        table.validate(full=True)  # texts that are no UTF-8 would fail where they are looked at
        return table
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(f"{path} can't be read: {first_line(error)}") from None


def write_table(path: Path, table: Any) -> None:
    """Write a parquet file, whole or not at all."""
    from pyarrow import parquet

    def write(target: Path) -> None:
        parquet.write_table(table, target, compression="zstd", write_page_checksum=True)

    write_file(path, write)
