"""The lines of an index as columns, which filters ask: a second for a million of them."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from diptych.search.columns import clean

_TEXTS, _NUMBERS = ("path", "shard"), ("size", "length", "mtime_ns")
_LINES = 65536
"""Of which one that Arrow's parser doesn't take, such as a damaged one, makes the rest slow."""
_SLOT = 900
"""Seconds within which the clock of no place is put forward or back."""
_WHOLE = range(-(2**63), 2**63)
_EPOCH = datetime(1970, 1, 1)


def read_entries(text: UInt8[np.ndarray, " bytes"], ends: Sequence[int]) -> Any:
    """A table of Arrow's with a row for each line, which is JSON and ends at one of `ends`: path
    and shard as they are written, size, length and mtime_ns. Of a damaged line it knows nothing."""
    import pyarrow

    starts = [0, *ends[:-1]]
    parts = [_schema().empty_table()]
    for first in range(0, len(ends), _LINES):
        some = slice(first, first + _LINES)
        lines = text[starts[first] : ends[some][-1]]
        parts.append(
            _parsed(lines, len(ends[some])) or _read_slowly(text, starts[some], ends[some])
        )
    return pyarrow.concat_tables(parts)


def _schema() -> Any:
    import pyarrow

    fields = [(name, pyarrow.string()) for name in _TEXTS]
    return pyarrow.schema(fields + [(name, pyarrow.int64()) for name in _NUMBERS])


def _parsed(lines: UInt8[np.ndarray, " bytes"], count: int) -> Any:
    """None where not every line is as it should be."""
    import pyarrow
    from pyarrow import json as parser

    options = parser.ParseOptions(
        explicit_schema=_schema(), unexpected_field_behavior="ignore", newlines_in_values=False
    )
    try:
        source = pyarrow.BufferReader(pyarrow.py_buffer(lines))
        table = parser.read_json(source, parse_options=options)
        table.validate(full=True)  # texts that are no UTF-8
    except pyarrow.ArrowException:
        return None
    return table.select(_schema().names) if len(table) == count else None


def _read_slowly(
    text: UInt8[np.ndarray, " bytes"], starts: Sequence[int], ends: Sequence[int]
) -> Any:
    import pyarrow

    found = list[dict[str, object]]()
    for start, end in zip(starts, ends, strict=True):
        try:
            values = json.loads(text[start:end].tobytes())
        except (ValueError, RecursionError):
            values = {}
        found.append(_kept(values) if isinstance(values, dict) else {})
    return pyarrow.Table.from_pylist(found, _schema())


def _kept(values: dict[str, object]) -> dict[str, object]:
    kept = dict[str, object]()
    for name in _TEXTS:
        if isinstance(value := values.get(name), str):
            kept[name] = clean(value)
    for name in _NUMBERS:
        if type(value := values.get(name)) is int and value in _WHOLE:
            kept[name] = value
    return kept


def lengths(entries: Any) -> Any:
    """Bytes of each encoded picture."""
    from pyarrow.compute import call_function

    return call_function("if_else", [_lies_in_a_shard(entries), entries["length"], entries["size"]])


def written(entries: Any) -> Any:
    """When each picture's file was last written, by this machine's clock; of one in a shard nothing
    is known."""
    import pyarrow
    from pyarrow.compute import call_function

    known = call_function("is_valid", [entries["mtime_ns"]]).to_numpy()
    known &= ~_lies_in_a_shard(entries).to_numpy()
    times = call_function("coalesce", [entries["mtime_ns"], pyarrow.scalar(0)]).to_numpy() // 10**9
    slots, slot = np.unique(times // _SLOT, return_inverse=True)
    offsets, known_slots = np.zeros(len(slots), np.int64), np.zeros(len(slots), bool)
    for place, start in enumerate((slots * _SLOT).tolist()):
        try:
            offsets[place] = (datetime.fromtimestamp(start) - _EPOCH).total_seconds() - start
        except (ValueError, OverflowError, OSError):  # no year that there is
            continue
        known_slots[place] = True
    dates: Int[np.ndarray, " rows"] = times + offsets[slot]
    unknown = ~(known & known_slots[slot])
    return pyarrow.array(dates, pyarrow.timestamp("s"), mask=unknown)


def _lies_in_a_shard(entries: Any) -> Any:
    import pyarrow
    from pyarrow.compute import call_function

    named = call_function("coalesce", [entries["shard"], pyarrow.scalar("")])
    return call_function("not_equal", [named, pyarrow.scalar("")])


def absolute(paths: Any, folder: str) -> Any:
    """Paths, of which some are relative to a `folder`."""
    import pyarrow
    from pyarrow.compute import MatchSubstringOptions, call_function

    is_absolute = call_function("starts_with", [paths], MatchSubstringOptions("/"))
    below = call_function(
        "binary_join_element_wise", [pyarrow.scalar(folder.rstrip("/")), paths, pyarrow.scalar("/")]
    )
    return call_function("if_else", [is_absolute, paths, below])
