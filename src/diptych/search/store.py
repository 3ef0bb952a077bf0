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

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from jaxtyping import Bool, Int

from diptych.encoder import Identity
from diptych.errors import ConfigError, DamageWarning, DataError
from diptych.search.columns import read_table
from diptych.search.entries import read_entries
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
    vectors_path,
)
from diptych.search.pictures import Picture
from diptych.search.rows import agreeing, from_line

COPY_ROWS = 65536
"""Rows that are read at a time."""
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
        starts = np.concatenate([[0], self._ends])[: len(self)]  # of no rows, none
        return self._agreeing(starts, self._ends, self.vectors)

    def are_sound(self, rows: Int[np.ndarray, " some"]) -> Bool[np.ndarray, " some"]:
        """The same of some rows alone; nothing else is read."""
        starts = np.where(rows > 0, self._ends[rows - 1], 0)
        return self._agreeing(starts, self._ends[rows], self.vectors[rows])

    def _agreeing(
        self, starts: Int[np.ndarray, " some"], ends: Int[np.ndarray, " some"], vectors: np.ndarray
    ) -> Bool[np.ndarray, " some"]:
        if self.meta.format == FORMAT:
            seed = self.meta.seed
            return agreeing(self._text, starts.tolist(), ends.tolist(), vectors, seed)
        # Without checksums, length 1 is all that is known of a vector.
        sound = np.zeros(len(vectors), bool)
        for start in range(0, len(vectors), COPY_ROWS):
            tile = vectors[start : start + COPY_ROWS].astype(np.float32)
            with np.errstate(over="ignore", invalid="ignore"):
                sound[start : start + COPY_ROWS] = abs((tile * tile).sum(1) - 1) < 0.01
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

    @cached_property
    def entries(self) -> Any:
        """What the lines say, as columns (`search/entries.py`)."""
        return read_entries(self._text, self._ends.tolist())

    @property
    def is_current(self) -> bool:
        """Whether it is written as it would be today, and here."""
        return (self.meta.format, self.meta.parent) == (FORMAT, parent_of(self.folder))
