"""Tables: one row a pair, the picture as a path beside the table or under a root, or as bytes
inside it."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from diptych.batch import Sample
from diptych.data.delimited import DelimitedRows
from diptych.data.ids import KEY, text_of
from diptych.data.json_rows import open_json
from diptych.data.parquet_rows import ParquetRows
from diptych.data.pictures import without_number
from diptych.data.rows import Columns, Rows
from diptych.data.source import Captioner, Source
from diptych.data.splits import split_of
from diptych.errors import DataError, first_line

_JSON = (".jsonl", ".json", ".ndjson")
_LISTS = (".txt", ".token")
"""Lists of captions, `PICTURE.jpg<separator>caption` a line, mostly without a header."""
TABLE_ENDINGS = (".csv", ".tsv", ".parquet", *_JSON)
_TRIED = 8
"""Pictures that are looked for to find the folder in which they lie."""
_FOLDERS = 100
"""Folders beside a table in which they are looked for."""


class TableSource(Source):
    """A table's rows. The picture stands in the first of `image_keys` (then of some usual names)
    that is a column.

    Paths of pictures start from `root`. Without one, they start from the table's folder; where the
    pictures aren't there, from one of `places`, from a folder beside the table, or from the current
    folder, whichever has them. `ids`: a column that is read, too, if it is there.
    """

    def __init__(
        self,
        path: Path,
        *,
        image_keys: tuple[str, ...],
        captioner: Captioner,
        cache: Path,
        root: str = "",
        separator: str = "",
        places: Sequence[Path] = (),
        ids: str = "",
    ):
        self.path = path
        self.class_names = captioner.class_names
        wanted = Columns(
            images=image_keys, captions=captioner.keys, captions_needed=captioner.needed, ids=ids
        )
        self._rows = _open_rows(path, wanted, cache, separator)
        self.bad_samples = self._rows.bad_samples
        columns = self._rows.columns
        self._image = wanted.image(columns)
        self._label = wanted.label(columns)
        self._split = wanted.split(columns)
        self._captions = wanted.caption_columns(columns)
        self._captioner = replace(captioner, keys=self._captions)
        self._check(columns)
        self._root = Path(root).expanduser() if root else self._find_root(places)
        found = () if root or self._root is None else (self._said_of_root(),)
        self.remarks = (*self._rows.remarks, *found)

    def _check(self, columns: Sequence[str]) -> None:
        flags, only = self._captioner.flags, f"only {', '.join(columns)}"
        if not self._image:
            raise DataError(
                f"{self.path} has no picture column, {only}: name one in {flags}image-key"
            )
        if self._captioner.needed and not self._label and not self._captions:
            raise DataError(
                f"{self.path} has no caption column, {only}: name one in {flags}caption-key"
            )
        for column in (self._image, *self._captions):
            if list(columns).count(column) > 1:
                raise DataError(
                    f"{self.path} has {list(columns).count(column)} columns called {column!r}; "
                    "give each a name of its own"
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
                return str(self.path), str(self._place(image, self._root))
        return (str(self.path),)

    def id_of(self, index: int, field: str) -> str:
        """The picture's path as it is written, or what a column holds."""
        columns = self._rows.columns
        if field == KEY:
            image = _picture(self._rows.value(index, self._image))
            return image if isinstance(image, str) else str(index)
        if column := Columns(images=(), captions=(), ids=field).id(columns):
            if text := text_of(self._rows.value(index, column)):
                return text
            raise DataError(f"its column {column!r} is empty")
        raise DataError(f"{self.path} has no such column, only {', '.join(columns)}")

    def __getitem__(self, index: int) -> Sample:
        row = dict(self._rows[index])
        image = _picture(row.pop(self._image, None))
        if not image or not isinstance(image, bytes | str):
            raise DataError(f"no picture in the column {self._image!r}")
        if isinstance(image, str) and "://" in image:
            raise DataError(f"{image} isn't a local file; download it first")
        label = row.get(self._label)
        without = self._captioner.alone or label in (None, "")
        label = None if without else self._captioner.label(label)
        return Sample(
            key=str(index) if isinstance(image, bytes) else image,
            image=image if isinstance(image, bytes) else str(self._place(image, self._root)),
            captions=self._captioner.captions(row, label),
            label=label,
            meta=row,
        )

    def _place(self, image: str, root: Path | None) -> Path:
        """The picture's file. An absolute path stays one, unless a root was given or found."""
        name = without_number(image)
        if "\\" in name and "/" not in name:  # written on Windows
            name = name.replace("\\", "/")
        return self.path.parent / name if root is None else root / name.lstrip("/")

    def _find_root(self, places: Sequence[Path]) -> Path | None:
        """Where pictures lie that aren't at their paths from the table's folder, if anywhere."""
        names = list[str]()
        for index in range(min(_TRIED, len(self))):
            with contextlib.suppress(DataError):
                image = _picture(self._rows[index].get(self._image))
                if isinstance(image, str) and image and "://" not in image:
                    names.append(image)
        if not names or any(os.path.exists(self._place(name, None)) for name in names):
            return None
        for place in (*places, *_beside(self.path.parent), Path()):
            if any(os.path.exists(self._place(name, place)) for name in names):
                return place
        return None

    def _said_of_root(self) -> str:
        return f"the pictures of {self.path} aren't beside it; they are read from {self._root}/"

    def parts(self) -> dict[str, tuple[int, ...]]:
        """Split -> its rows, where a column `split` names several; else empty."""
        found = dict[str, list[int]]()
        for index in range(len(self) if self._split else 0):
            with contextlib.suppress(DataError):
                if split := split_of(str(self._rows[index].get(self._split))):
                    found.setdefault(split, []).append(index)
        several = found if len(found) > 1 else {}
        return {split: tuple(rows) for split, rows in several.items()}

    @property
    def captioned(self) -> bool:
        """Whether it has a column of captions."""
        return bool(self._captions)

    def pictures_exist(self) -> bool:
        """Whether some of the first rows' pictures are there."""
        for index in range(min(_TRIED, len(self))):
            with contextlib.suppress(DataError):
                image = self[index].image
                if isinstance(image, bytes) or os.path.exists(image):
                    return True
        return False

    def describe(self) -> str:
        left_out = f", {len(self.bad_samples):,} lines left out" if self.bad_samples else ""
        return f"{len(self):,} rows of {self.path}{left_out}"


def is_list_of_captions(path: Path) -> bool:
    """Whether a text file may be one: its first lines name pictures, and go on after the name."""
    if path.suffix.lower() not in _LISTS:
        return False
    wanted = Columns(images=(), captions=("caption",))
    try:
        rows = DelimitedRows(path, wanted, surplus=True)
    except (DataError, OSError):
        return False
    return bool(len(rows)) and wanted.fit(rows.columns)


def is_table(path: Path) -> bool:
    """Whether a file is a table by its ending, in any case."""
    return path.suffix.lower() in TABLE_ENDINGS


def is_list(path: Path) -> bool:
    """Whether a file may be a list of captions by its ending."""
    return path.suffix.lower() in _LISTS


def _beside(own: Path) -> list[Path]:
    """Folders in the table's folder, and in the one above."""
    found = list[Path]()
    for folder in (own, own.absolute().parent):
        with contextlib.suppress(OSError):
            found += sorted(path for path in folder.iterdir() if path.is_dir())[:_FOLDERS]
    return found


def _picture(value: Any) -> Any:
    """The bytes or the path that the column holds."""
    if isinstance(value, Mapping):  # the image type of Hugging Face's data sets
        return value.get("bytes") or value.get("path")
    return value


def _open_rows(path: Path, wanted: Columns, cache: Path, separator: str) -> Rows:
    """Rows by number, as column -> value. Reading a bad one raises DataError."""
    kind = path.suffix.lower()
    if kind in _JSON:
        return open_json(path)
    if kind != ".parquet":
        return DelimitedRows(path, wanted, separator=separator, surplus=kind in _LISTS)
    import pyarrow

    try:
        return ParquetRows(path, wanted, cache)
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(f"{path} can't be read: {first_line(error)}") from None
