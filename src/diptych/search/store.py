"""An index on disk: a folder that a kill leaves whole, and in which damage is noticed.

    photos.index/
      meta.json         which model made the vectors, their width and type, the current
                        generation G, where the folder lies; and a checksum of all that
      vectors-G.npy     one unit vector a row; `numpy.load(..., mmap_mode="r")` reads it
      items-G.jsonl     one picture a line, in the order of the rows, with a checksum of line and
                        vector; paths of what lies beside or below the index are relative to
                        the folder it lies in
      metadata-G.parquet  what else is known of each picture (`search/metadata.py`); may be missing
      lock              held by the process that writes

A row counts once its line is complete: vectors are written and synced first, lines after, the
header's count of rows last. So a kill may leave more vectors than lines, or half a line, which the
next writer cuts off and readers ignore; fewer lines than the header tells of are damage. What is
there is changed by writing generation G + 1 beside G and then replacing `meta.json`.
"""

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diptych.durable import sync
from diptych.encoder import Identity
from diptych.errors import ConfigError, DamageWarning, DataError
from diptych.search.columns import read_table, rows_of, write_table
from diptych.search.meta import (
    FORMAT,
    IndexMeta,
    corrupt,
    items_path,
    metadata_path,
    parent_of,
    places_of,
    read_meta,
    sources_of,
    sweep_generations,
    vectors_path,
    write_meta,
    written_sources,
)
from diptych.search.pictures import Picture, outermost
from diptych.search.rows import agreeing, from_line, to_line

_COPY_ROWS = 65536
_UNREADABLE = (OSError, ValueError, TypeError, SyntaxError, TokenError, MemoryError)
"""What numpy raises for a corrupt file."""


class Store:
    """Read access to the pictures and vectors of an index folder, both memory-mapped.

    Raises DataError if the folder is not an index, is corrupt as a whole, or was written in another
    format. Single rows that aren't as they were written are not `sound`.
    """

    lost: int
    """Rows that the header tells of, and that aren't there."""
    vectors: np.ndarray

    def __init__(self, folder: str | os.PathLike[str], meta: IndexMeta | None = None):
        self.folder = Path(folder)
        while True:
            self.meta = meta or read_meta(self.folder)
            try:
                self._open()
                return
            except FileNotFoundError as error:
                # A writer may have put the next generation in this one's place meanwhile.
                if meta or read_meta(self.folder).generation == self.meta.generation:
                    raise corrupt(self.folder, error) from error
            except _UNREADABLE as error:
                raise corrupt(self.folder, error) from error

    def _open(self) -> None:
        with open(vectors_path(self.folder, self.meta), "rb") as file:
            # In the order opposite to a writer's, so that what is told is there.
            told, offset = self._header(file)
            items = items_path(self.folder, self.meta)
            empty = not items.stat().st_size
            self._text = np.zeros(0, np.uint8) if empty else np.memmap(items, np.uint8, "r")
            ends = np.flatnonzero(self._text == ord("\n")) + 1
            kind, width = np.dtype(self.meta.vectors), self.meta.width
            there = max(0, os.fstat(file.fileno()).st_size - offset) // (kind.itemsize * width)
            rows = min(len(ends), there)
            self.lost = max(told, len(ends)) - rows
            self._ends = ends[:rows]
            # Copy on write: torch refuses to look at memory that says it can't be written.
            self.vectors = (
                np.memmap(file, kind, "c", offset, (rows, width))
                if rows
                else np.zeros((0, width), kind)
            )
        if self.lost and self.meta.format < FORMAT:
            raise ValueError(f"it has vectors for {told} pictures, and names for {len(ends)}")

    def _header(self, file: IO[bytes]) -> tuple[int, int]:
        """How many rows are told of, and where they begin."""
        if self.meta.width < 1:
            raise ValueError(f"vectors of {self.meta.width} numbers")
        if not os.fstat(file.fileno()).st_size:  # a new generation, as yet without a row
            return 0, 0
        np.lib.format.read_magic(file)
        shape, columns_first, kind = np.lib.format.read_array_header_1_0(file)
        if len(shape) != 2 or shape[1] != self.meta.width or columns_first:
            raise ValueError(f"vectors of the shape {list(shape)}, not [rows, {self.meta.width}]")
        if kind != np.dtype(self.meta.vectors):
            raise ValueError(f"vectors in {kind}, not {self.meta.vectors}")
        return shape[0], file.tell()

    def __len__(self) -> int:
        return len(self._ends)

    @cached_property
    def sound(self) -> Bool[np.ndarray, " rows"]:
        """Which rows are as they were written. Reads everything: half a second for 300,000
        vectors of 512 numbers, where a search with all its imports takes 3."""
        if self.meta.format == FORMAT:
            return agreeing(self._text, self._ends.tolist(), self.vectors, self.meta.seed)
        # Without checksums, length 1 is all that is known of a vector.
        sound = np.zeros(len(self), bool)
        for start in range(0, len(self), _COPY_ROWS):
            tile = self.vectors[start : start + _COPY_ROWS].astype(np.float32)
            with np.errstate(over="ignore", invalid="ignore"):
                sound[start : start + _COPY_ROWS] = abs((tile * tile).sum(1) - 1) < 0.01
        return sound

    @property
    def damaged(self) -> int:
        """Rows that are lost, or aren't as they were written."""
        return self.lost + len(self) - int(self.sound.sum())

    @property
    def made_by(self) -> Identity:
        """The model that made the vectors, by the place where it lies now if it moved together with
        the index."""
        model = self.meta.model
        return replace(model, name=places_of(self.folder, self.meta).moved(model.name))

    @property
    def sources(self) -> list[str]:
        """Where the pictures come from, as absolute paths."""
        return sources_of(self.folder, self.meta)

    def check_model(self, model: Identity) -> None:
        """Raises ConfigError if the vectors were made by another model, other weights or in another
        precision."""
        made_by = self.meta.model
        if made_by.fingerprint != model.fingerprint:
            raise ConfigError(
                f"{self.folder} holds vectors of {made_by.name} ({made_by.dtype}), which can't be "
                f"mixed with those of {model.name} ({model.dtype}): they differ in weights or "
                "precision; choose another index"
            )

    @property
    def text_bytes(self) -> int:
        """Length of the complete lines of the items."""
        return int(self._ends[-1]) if len(self) else 0

    def picture(self, row: int) -> Picture:
        """The picture whose vector is `vectors[row]`. Raises DataError if the line is none."""
        start = self._ends[row - 1] if row else 0
        line = self._text[start : self._ends[row]].tobytes()
        try:
            return from_line(line, places_of(self.folder, self.meta))
        except (ValueError, RecursionError, TypeError) as error:
            raise corrupt(self.folder, f"row {row}: {error}") from error

    def pictures(self) -> Iterator[Picture]:
        """All of them, in the order of the rows."""
        return map(self.picture, range(len(self)))

    @cached_property
    def metadata(self) -> Any:
        """What else is known of the pictures, of the first ones at least (`search/metadata.py`), as
        a table of Arrow's; None: nothing is written down, or it is damaged, which is said."""
        path = metadata_path(self.folder, self.meta)
        if not path.exists():
            return None
        try:
            return read_table(path).slice(0, len(self))
        except DataError as error:
            mend = (
                "`diptych embed PICTURES --out` of it looks at them again; joined tables are lost"
            )
            warnings.warn(
                f"{error}, so it isn't known of its pictures; {mend}", DamageWarning, stacklevel=2
            )
            return None

    def lines(self) -> Iterator[dict[str, Any]]:
        """What each line says, paths as they are written; empty: the line is damaged."""
        start = 0
        for end in self._ends.tolist():
            try:
                values = json.loads(self._text[start:end].tobytes())
            except (ValueError, RecursionError):
                values = {}
            yield values if isinstance(values, dict) else {}
            start = end

    @property
    def is_current(self) -> bool:
        """Whether it is written as it would be today, and here."""
        return (self.meta.format, self.meta.parent) == (FORMAT, parent_of(self.folder))


class Appender:
    """Write access at the end. What a kill left behind the last complete line is cut off."""

    def __init__(self, folder: str | os.PathLike[str], meta: IndexMeta | None = None):
        store = Store(folder, meta)
        assert store.is_current, store.meta
        self._meta, self._rows = store.meta, len(store)
        self._places = places_of(store.folder, store.meta)
        self._vectors = vectors_path(store.folder, store.meta).open("r+b")
        self._items = items_path(store.folder, store.meta).open("r+b")
        self._items.truncate(store.text_bytes)
        self._items.seek(0, os.SEEK_END)
        self._write_header()
        self._vectors.truncate(self._vectors.tell() + store.vectors.nbytes)

    def append(self, pictures: Sequence[Picture], vectors: Float[Tensor, "pictures width"]) -> None:
        """Add rows, and return when they are on the disk."""
        assert vectors.shape == (len(pictures), self._meta.width), (
            vectors.shape,
            len(pictures),
            self._meta.width,
        )
        numbers = [row.tobytes() for row in vectors.numpy().astype(self._meta.vectors)]
        lines = [
            to_line(picture, vector, self._meta.seed, self._places)
            for picture, vector in zip(pictures, numbers, strict=True)
        ]
        self._vectors.seek(0, os.SEEK_END)
        self._vectors.write(b"".join(numbers))
        _sync(self._vectors)
        self._items.write(b"".join(lines))
        _sync(self._items)
        self._rows += len(pictures)
        self._write_header()

    def __enter__(self) -> "Appender":
        return self

    def __exit__(self, *_: object) -> None:
        self._vectors.close()
        self._items.close()

    def _write_header(self) -> None:
        """numpy leaves room in the header for the number of rows to grow, so it can be written
        over."""
        descr = np.lib.format.dtype_to_descr(np.dtype(self._meta.vectors))
        header = {"descr": descr, "fortran_order": False, "shape": (self._rows, self._meta.width)}
        self._vectors.seek(0)
        np.lib.format.write_array_header_1_0(self._vectors, header)
        self._vectors.flush()


def create(folder: str | os.PathLike[str], meta: IndexMeta) -> None:
    """An empty index."""
    _write_generation(Path(folder), replace(meta, parent=parent_of(folder)))


def describe(
    folder: str | os.PathLike[str],
    model: Identity,
    sources: Sequence[str],
    exclude: Sequence[str],
    prune: bool,
) -> None:
    """Write what an update is about: where the model, the same one by its fingerprint, lies now,
    and absolute `sources`, beside those of earlier updates; with `prune`, of these only what is
    there."""
    folder = Path(folder)
    meta = read_meta(folder)
    assert meta.model.fingerprint == model.fingerprint, (meta.model, model)
    earlier = [path for path in sources_of(folder, meta) if not prune or os.path.lexists(path)]
    about = replace(
        meta,
        model=model,
        sources=written_sources(folder, meta, outermost([*earlier, *sources])),
        exclude=tuple(exclude),
    )
    if about != meta:
        write_meta(folder, about)


def rewrite(folder: str | os.PathLike[str], rows: Sequence[tuple[int, Picture]]) -> None:
    """Let the index hold, for each (row, picture), this picture with the vector that the row has
    now: all at once, or nothing."""
    old = Store(folder)
    meta = replace(
        old.meta,
        generation=old.meta.generation + 1,
        parent=parent_of(folder),
        sources=written_sources(old.folder, old.meta, sources_of(old.folder, old.meta)),
        format=FORMAT,
    )

    def parts() -> Iterator[tuple[list[Picture], Tensor]]:
        for start in range(0, len(rows), _COPY_ROWS):
            part = rows[start : start + _COPY_ROWS]
            vectors = old.vectors[[row for row, _ in part]]
            yield [picture for _, picture in part], torch.from_numpy(vectors)

    known = old.metadata
    if known is not None:
        there = [row if row < len(known) else -1 for row, _ in rows]
        known = rows_of(known, there)
    _write_generation(old.folder, meta, parts(), known)


def _write_generation(
    folder: Path,
    meta: IndexMeta,
    parts: Iterable[tuple[list[Picture], Tensor]] = (),
    metadata: Any = None,
) -> None:
    """Write it beside the current one, then make it the current one."""
    files = vectors_path(folder, meta), items_path(folder, meta)
    try:
        for file in files:
            file.write_bytes(b"")
        if metadata is not None:
            write_table(metadata_path(folder, meta), metadata)
        with Appender(folder, meta) as new:
            for pictures, vectors in parts:
                new.append(pictures, vectors)
        for path in (*files, folder):
            sync(path)
    except BaseException:
        for file in (*files, metadata_path(folder, meta)):
            file.unlink(missing_ok=True)
        raise
    write_meta(folder, meta)
    sweep_generations(folder, meta)


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
