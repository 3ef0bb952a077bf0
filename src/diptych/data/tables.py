"""Tables: one row a pair, the picture as a path beside the table or under a root, or as bytes
inside it."""

import contextlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.batch import Sample
from diptych.data.files import OpenFiles, file_version
from diptych.data.source import BadSample, Captioner, Source
from diptych.data.spool import make_once
from diptych.errors import DataError

_LINES = (".jsonl", ".json")
TABLE_ENDINGS = (".csv", ".tsv", ".parquet", *_LINES)
_IMAGE_COLUMNS = ("image", "img", "filepath", "image_path", "file_name", "filename", "path")
_LABEL_COLUMNS = ("cls", "label", "fine_label")


class TableSource(Source):
    """A table's rows. The picture stands in the first of `image_keys` (then of some usual names)
    that is a column."""

    def __init__(
        self,
        path: Path,
        *,
        image_keys: tuple[str, ...],
        captioner: Captioner,
        cache: Path,
        root: str = "",
    ):
        self.path = path
        self._root = Path(root).expanduser() if root else None
        self.class_names = captioner.class_names
        self._captioner = captioner
        images = (*image_keys, *_IMAGE_COLUMNS)
        self._rows = _open_rows(path, (*images, *captioner.keys, *_LABEL_COLUMNS), cache)
        self.bad_samples = self._rows.bad_samples
        columns = self._rows.columns
        self._image = _first(images, columns)
        self._label = _first(_LABEL_COLUMNS, columns)
        if not self._image:
            raise DataError(
                f"{path} has no picture column, only {', '.join(columns)}: "
                "name one in data.image_key"
            )
        if captioner.needed and not self._label and not _first(captioner.keys, columns):
            raise DataError(
                f"{path} has no caption column, only {', '.join(columns)}: "
                "name one in data.caption_key"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def where(self, index: int) -> tuple[str, str]:
        return str(self.path), str(index)

    def files(self, index: int) -> tuple[str, ...]:
        """The table, and the picture's file where the row names one."""
        with contextlib.suppress(DataError):
            image = _picture(self._rows[index].get(self._image))
            if isinstance(image, str):
                return str(self.path), str(self._place(image))
        return (str(self.path),)

    def __getitem__(self, index: int) -> Sample:
        row = dict(self._rows[index])
        image = _picture(row.pop(self._image, None))
        if not image or not isinstance(image, bytes | str):
            raise DataError(f"no picture in the column {self._image!r}")
        label = row.get(self._label)
        label = None if label in (None, "") else self._captioner.label(label)
        return Sample(
            key=str(index) if isinstance(image, bytes) else image,
            image=image if isinstance(image, bytes) else str(self._place(image)),
            captions=self._captioner.captions(row, label),
            label=label,
            meta=row,
        )

    def _place(self, image: str) -> Path:
        return self.path.parent / image if self._root is None else self._root / image.lstrip("/")

    def describe(self) -> str:
        return "; ".join(
            [f"{len(self):,} rows of {self.path}", *(bad.reason for bad in self.bad_samples)]
        )


def _picture(value: Any) -> Any:
    """The bytes or the path that the column holds."""
    if isinstance(value, Mapping):  # the image type of Hugging Face's data sets
        return value.get("bytes") or value.get("path")
    return value


def _first(names: Sequence[str], columns: Sequence[str]) -> str:
    """The first name that is a column, or an empty string."""
    return next((name for name in names if name in columns), "")


class _JsonLines:
    """A line is found by its offset and parsed when asked for: opening is one scan, and a bad line
    is one bad sample."""

    def __init__(self, path: Path):
        self.bad_samples: tuple[BadSample, ...] = ()
        self._path, self._files = path, OpenFiles()
        with path.open("rb") as file:
            lines = np.array([(len(line), not line.isspace()) for line in file], np.int64).reshape(
                -1, 2
            )
        lengths, filled = lines[:, 0], lines[:, 1].astype(bool)
        self._starts = (np.cumsum(lengths) - lengths)[filled]
        self._lengths = lengths[filled]
        # A line may lack a field, so several are asked for the columns' names.
        names = map(self._names, range(min(100, len(self))))
        self.columns = tuple(dict.fromkeys(itertools.chain.from_iterable(names)))

    def _names(self, index: int) -> tuple[str, ...]:
        with contextlib.suppress(DataError):
            return tuple(self[index])
        return ()

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        data = self._files.read(self._path, int(self._starts[index]), int(self._lengths[index]))
        try:
            row = json.loads(data)
        except ValueError as error:
            raise DataError(f"the line can't be read as JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError("the line is no JSON object")
        return row


class _ArrowRows:
    """The wanted columns: csv and tsv in memory; parquet through an uncompressed copy in the cache,
    memory-mapped, because parquet itself can only be unpacked by whole row groups."""

    def __init__(self, path: Path, wanted: Sequence[str], cache: Path):
        self._arguments = (path, wanted, cache)
        self.bad_samples: tuple[BadSample, ...] = ()
        if path.suffix == ".parquet":
            self.columns, self._table = _open_parquet(path, wanted, cache)
        else:
            self.columns, self._table, skipped = _read_csv(
                path, "\t" if path.suffix == ".tsv" else ","
            )
            if skipped:
                reason = (
                    f"{len(skipped)} rows with a wrong number of columns are left out, "
                    f"the first: {skipped[0]!r}"
                )
                self.bad_samples = (BadSample(str(path), "", reason),)
        self._columns = {
            name: self._table[name] for name in dict.fromkeys(wanted) if name in self.columns
        }

    def __reduce__(self):
        return (_ArrowRows, self._arguments)

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {name: column[index].as_py() for name, column in self._columns.items()}


def _read_csv(path: Path, delimiter: str) -> tuple[list[str], Any, list[str]]:
    """Column names, all columns as text, and the rows that don't fit."""
    from pyarrow import csv, string

    skipped: list[str] = []

    def skip(row: Any) -> str:  # a pyarrow.csv.InvalidRow, which has no types
        skipped.append(row.text[:80])
        return "skip"

    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    with csv.open_csv(path, parse_options=parse) as first_block:
        names = first_block.schema.names
    skipped.clear()
    convert = csv.ConvertOptions(column_types={name: string() for name in names})
    return names, csv.read_csv(path, parse_options=parse, convert_options=convert), skipped


def _open_parquet(path: Path, wanted: Sequence[str], cache: Path) -> tuple[list[str], Any]:
    """Column names, and the wanted columns as a memory-mapped table (in memory, when the cache
    can't be written)."""
    import pyarrow
    from pyarrow import parquet

    file = parquet.ParquetFile(path, memory_map=True)
    names = file.schema_arrow.names
    chosen = [name for name in dict.fromkeys(wanted) if name in names]

    def copy(target: Path) -> None:
        schema = pyarrow.schema([file.schema_arrow.field(name) for name in chosen])
        with pyarrow.ipc.new_file(str(target), schema) as writer:
            for rows in file.iter_batches(batch_size=1024, columns=chosen):
                writer.write_batch(rows.select(chosen))

    try:
        stored = make_once(cache / "tables" / f"{file_version(path, *chosen)}.arrow", copy)
        return names, pyarrow.ipc.open_file(pyarrow.memory_map(str(stored))).read_all()
    except OSError:
        return names, file.read(columns=chosen)


def _open_rows(path: Path, wanted: Sequence[str], cache: Path) -> _JsonLines | _ArrowRows:
    """Rows by number, as column -> value. Reading a bad one raises DataError."""
    if path.suffix in _LINES:
        return _JsonLines(path)
    import pyarrow

    try:
        return _ArrowRows(path, wanted, cache)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} can't be read: {error}") from None
