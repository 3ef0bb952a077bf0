"""Files of ids, whichever way they are written."""

import codecs
import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from diptych.arrays import map_npy
from diptych.bounded import parse_json, read_whole
from diptych.data.ids import ID, KEY, Values, text_of, values_of
from diptych.errors import DataError, first_line

_PIECE = 1 << 16
"""Ids that are in memory at a time."""
_LONGEST = 1 << 16
"""Letters of a line."""
_MOST = 1 << 30
"""Bytes of a file that is one piece of JSON."""
_SEPARATORS = (",", "\t", ";", "|")
_KINDS = ".npy, .txt, .csv, .tsv, .parquet, .jsonl or .json"
_SHOWN = 8


def read_ids(path: Path, field: str) -> Iterator[Values]:
    """The ids in a file, some at a time; of a table, those in the column `field`. Raises DataError
    in one sentence for a file that holds none or can't be read."""
    found = 0
    for piece in _reading(path, _pieces(path, field)):
        values = _halves(piece) if isinstance(piece, np.ndarray) else values_of(filter(None, piece))
        found += len(values)
        yield values
    if not found:
        raise DataError(
            f"{path} holds no ids, or none that are called {field!r} (--data.keep-field)"
        )


def first_ids(path: Path, field: str, count: int) -> list[str]:
    """The first ones, as they are written. Raises DataError as `read_ids`."""
    texts = list[str]()
    for piece in _reading(path, _pieces(path, field)):
        if isinstance(piece, np.ndarray):
            piece = (value.tobytes().hex() for value in _halves(piece[:count])[:, None])
        texts += itertools.islice(filter(None, piece), count - len(texts))
        if len(texts) == count:
            break
    return texts


def _reading(path: Path, pieces: Iterator[Any]) -> Iterator[Any]:
    """The pieces; what goes wrong is one sentence."""
    import pyarrow

    try:
        yield from pieces
    except (OSError, ValueError, UnicodeDecodeError, csv.Error, pyarrow.ArrowException) as error:
        if isinstance(error, DataError):
            raise
        reason = error.strerror if isinstance(error, OSError) else ""
        raise DataError(f"{path} can't be read: {reason or first_line(error)}") from None


def _pieces(path: Path, field: str) -> Iterator[Sequence[str] | np.ndarray]:
    """Texts, or pairs of 64-bit halves; an empty text: a gap."""
    if not path.exists():
        raise DataError(f"{path} doesn't exist")
    if not path.is_file():
        raise DataError(f"{path} is no regular file: name a file of ids ({_KINDS})")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty")
    match path.suffix.lower():
        case ".npy":
            yield from _of_array(path)
        case ".txt":
            yield from _batched(map(str.strip, _lines(path)))
        case ".csv" | ".tsv":
            yield from _batched(_of_table(path, field))
        case ".parquet":
            yield from _of_parquet(path, field)
        case ".json" | ".jsonl" | ".ndjson":
            yield from _batched(_of_json(path, field))
        case _:
            raise DataError(f"{path} is no file of ids that is read: write them as {_KINDS}")


def _batched(texts: Iterable[str]) -> Iterator[Sequence[str]]:
    texts = iter(texts)
    while piece := list(itertools.islice(texts, _PIECE)):
        yield piece


def _halves(piece: np.ndarray) -> Values:
    """Pairs of 64-bit numbers, the higher half first, as bytes in the order of their digits."""
    names = piece.dtype.names
    pairs = piece.T if names is None else [piece[name] for name in names]
    return np.ascontiguousarray(np.stack(cast(Any, pairs), axis=1).astype(">u8")).view(ID).ravel()


def _of_array(path: Path) -> Iterator[Sequence[str] | np.ndarray]:
    array = map_npy(path)
    fields = [array.dtype[name].newbyteorder("=") for name in array.dtype.names or ()]
    halves = array.ndim == 1 and fields == 2 * [np.dtype(np.uint64)]
    halves = halves or (array.ndim == 2 and array.shape[1] == 2 and array.dtype == np.uint64)
    if not halves and (array.ndim != 1 or array.dtype.kind not in "SUiu"):
        raise ValueError(
            f"it holds {list(array.shape)} of {array.dtype}; ids are texts or whole numbers in one "
            "dimension, or DataComp's u8,u8"
        )
    for start in range(0, len(array), _PIECE):
        piece = np.asarray(array[start : start + _PIECE])
        yield piece if halves else list(map(text_of, piece.tolist()))


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    with path.open(encoding="utf-16" if wide else "utf-8-sig", newline="") as file:
        for number in itertools.count(1):
            line = file.readline(_LONGEST)
            if len(line) == _LONGEST:
                raise ValueError(f"line {number:,} has more than {_LONGEST:,} letters")
            if not line:
                break
            yield line


def _column(path: Path, field: str, columns: Sequence[str]) -> int:
    """The place of the column that holds the ids: of that name, in any case, or the only one."""
    names = [column.strip().casefold() for column in columns]
    for name in (field, *(["key"] if field == KEY else [])):
        if name.casefold() in names:
            return names.index(name.casefold())
    if len(names) == 1:
        return 0
    shown = ", ".join(columns[:_SHOWN]) + (", …" if len(columns) > _SHOWN else "")
    raise DataError(
        f"{path} has no column {field!r}, only {shown}: name the field that holds the ids, there "
        "and in the samples, in --data.keep-field"
    )


def _of_table(path: Path, field: str) -> Iterator[str]:
    """A file of one column may have a header, by the field's name. Another name is at worst an id
    that no sample has."""
    lines = itertools.dropwhile(str.isspace, _lines(path))
    if not (header := next(lines, "")):  # nothing but a byte order mark, or empty lines
        return
    own = "\t" if path.suffix.lower() == ".tsv" else max(_SEPARATORS, key=header.count)
    rows = csv.reader(itertools.chain([header], lines), delimiter=own)
    columns = next(rows)
    place = _column(path, field, columns)
    if len(columns) == 1 and columns[0].strip().casefold() != field.casefold():
        yield columns[0].strip()
    for row in rows:
        yield row[place].strip() if place < len(row) else ""


def _of_parquet(path: Path, field: str) -> Iterator[Sequence[str]]:
    from pyarrow import parquet

    file = parquet.ParquetFile(path, memory_map=True)
    names: list[str] = file.schema_arrow.names
    chosen = names[_column(path, field, names)]
    for rows in file.iter_batches(_PIECE, columns=[chosen]):
        yield list(map(text_of, rows.column(0).to_pylist()))


def _of_json(path: Path, field: str) -> Iterator[str]:
    """A list, or a value a line, of ids or of objects that have them in a field."""
    with path.open("rb") as file:
        listed = file.read(_PIECE).removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"["
    if listed:
        values: Any = parse_json(read_whole(path, _MOST).removeprefix(codecs.BOM_UTF8))
    else:
        values = (parse_json(line) for line in _lines(path) if line.strip())
    for value in values:
        yield text_of(value.get(field) if isinstance(value, dict) else value)
