"""An index on disk: a folder that a kill leaves whole.

    photos.index/
      meta.json         which model made the vectors, their width and type, and the current
                        generation G
      vectors-G.npy     one unit vector a row; `numpy.load(..., mmap_mode="r")` reads it
      items-G.jsonl     one picture a line, in the order of the rows
      lock              held by the process that writes

A row counts once its line is complete: vectors are written and synced first, lines after. What a
kill leaves behind the last complete line is cut off by the next writer and ignored by readers. Rows
are dropped by writing generation G + 1 beside G and then replacing `meta.json`.
"""

import json
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diptych.config.serialize import read_as
from diptych.durable import naming, sweep, write_file
from diptych.encoder import Identity
from diptych.errors import ConfigError, DataError
from diptych.search.pictures import Picture

FORMAT = 1
_COPY_ROWS = 65536


@dataclass(frozen=True, kw_only=True)
class IndexMeta:
    """What `meta.json` says."""

    model: Identity
    width: int
    vectors: Literal["float16", "float32"] = "float32"
    generation: int = 0
    format: int = FORMAT


class Store:
    """Read access to the pictures and vectors of an index folder, both memory-mapped.

    Raises DataError if the folder is not an index, is corrupt, or was written in another format.
    """

    def __init__(self, folder: str | os.PathLike[str], meta: IndexMeta | None = None):
        self.folder = Path(folder)
        self.meta = meta or _read_meta(self.folder)
        items = items_path(self.folder, self.meta)
        try:
            self._text = (
                np.memmap(items, np.uint8, "r") if items.stat().st_size else np.zeros(0, np.uint8)
            )
            self._ends = np.flatnonzero(self._text == ord("\n")) + 1
            self.vectors = self._map_vectors()
        except (OSError, ValueError, TypeError, SyntaxError, TokenError, MemoryError) as error:
            raise self._corrupt(error) from error

    def _corrupt(self, error: Exception) -> DataError:
        return DataError(f"{self.folder} is corrupt ({error}); delete it and embed again")

    def __len__(self) -> int:
        return len(self._ends)

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
        """The picture whose vector is `vectors[row]`."""
        start = self._ends[row - 1] if row else 0
        try:
            values = json.loads(self._text[start : self._ends[row]].tobytes())
            return read_as(Picture, values, f"row {row}")
        except (ValueError, RecursionError, TypeError) as error:
            raise self._corrupt(error) from error

    def pictures(self) -> Iterator[Picture]:
        """All of them, in the order of the rows."""
        return map(self.picture, range(len(self)))

    def _map_vectors(self) -> np.ndarray:
        path, shape = vectors_path(self.folder, self.meta), (len(self), self.meta.width)
        if not len(self):
            return np.zeros(shape, self.meta.vectors)
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            told, _, _ = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
        # A kill may leave more lines than the header tells of, or cut the last one. Otherwise lines
        # are lost, and every later picture would have its neighbour's vector.
        cut = int(len(self._text) > self.text_bytes)
        if len(told) != 2 or told[0] > shape[0] + cut or told[1] != shape[1]:
            raise ValueError(f"it has vectors for {list(told)}, and names for {list(shape)}")
        # Copy on write: torch refuses to look at memory that says it can't be written.
        return np.memmap(path, self.meta.vectors, "c", offset, shape)


class Appender:
    """Write access at the end. What a kill left behind the last complete line is cut off."""

    def __init__(self, folder: str | os.PathLike[str], meta: IndexMeta | None = None):
        store = Store(folder, meta)
        self._meta, self._rows = store.meta, len(store)
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
        self._vectors.seek(0, os.SEEK_END)
        self._vectors.write(vectors.numpy().astype(self._meta.vectors).tobytes())
        _sync(self._vectors)
        self._items.write(b"".join(map(_line, pictures)))
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
    """An empty index. Raises DataError if something else lies there."""
    folder = Path(folder)
    _start_generation(folder, meta)
    _write_meta(folder, meta)


def set_model(folder: str | os.PathLike[str], model: Identity) -> None:
    """Write where the model, the same one by its fingerprint, lies now."""
    meta = _read_meta(Path(folder))
    assert meta.model.fingerprint == model.fingerprint, (meta.model, model)
    if meta.model != model:
        _write_meta(Path(folder), replace(meta, model=model))


def drop(folder: str | os.PathLike[str], keep: Bool[np.ndarray, " rows"]) -> None:
    """Leave out the rows where `keep` is False, all at once."""
    old = Store(folder)
    meta = replace(old.meta, generation=old.meta.generation + 1)
    _start_generation(old.folder, meta)
    rows = np.flatnonzero(keep)
    with Appender(old.folder, meta) as new:
        for start in range(0, len(rows), _COPY_ROWS):
            part = rows[start : start + _COPY_ROWS]
            new.append(
                [old.picture(row) for row in part.tolist()], torch.from_numpy(old.vectors[part])
            )
    _write_meta(old.folder, meta)
    current = {vectors_path(old.folder, meta), items_path(old.folder, meta)}
    for path in {*old.folder.glob("vectors-*.npy"), *old.folder.glob("items-*.jsonl")} - current:
        path.unlink()


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Generator[None, None, None]:
    """Be the only writer; a killed process lets go by itself. Raises DataError if another process
    is writing.

    Windows has no such lock; there, two writers at once are the user's to avoid.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DataError(
                    f"another process is writing {folder}; wait until it has finished"
                ) from error
        sweep(folder)
        with naming(folder):
            yield


def exists(folder: str | os.PathLike[str]) -> bool:
    """Whether there is an index; False for a folder that is empty, or that doesn't exist.

    Raises DataError for anything else, so that nothing is written into a folder of other things.
    """
    folder = Path(folder)
    if (folder / "meta.json").is_file():
        return True
    ours = {"lock", "vectors-0.npy", "items-0.jsonl"}
    if folder.exists() and (
        not folder.is_dir()
        or any(entry.name not in ours and not _unfinished(entry) for entry in folder.iterdir())
    ):
        raise DataError(f"{folder} exists and is not an index; choose another name")
    return False


def _unfinished(path: Path) -> bool:
    """Whether a killed writer of `meta.json` left it."""
    return path.name.startswith(".meta.json.")


def vectors_path(folder: Path, meta: IndexMeta) -> Path:
    """The file of the current generation's vectors."""
    return folder / f"vectors-{meta.generation}.npy"


def items_path(folder: Path, meta: IndexMeta) -> Path:
    """The file of the current generation's pictures."""
    return folder / f"items-{meta.generation}.jsonl"


def _start_generation(folder: Path, meta: IndexMeta) -> None:
    vectors_path(folder, meta).write_bytes(b"")
    items_path(folder, meta).write_bytes(b"")


def _read_meta(folder: Path) -> IndexMeta:
    try:
        values = json.loads((folder / "meta.json").read_text())
    except OSError as error:
        raise DataError(
            f"{folder} is not an index; make one with `diptych embed MODEL FOLDER --out {folder}`"
        ) from error
    except ValueError as error:
        raise DataError(f"{folder} is corrupt ({error}); delete it and embed again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DataError(
            f"{folder} isn't an index of format {FORMAT}, which this version reads: embed again"
        )
    try:
        return read_as(IndexMeta, values, "meta.json")
    except (ConfigError, TypeError) as error:
        raise DataError(f"{folder} is corrupt ({error}); delete it and embed again") from error


def _write_meta(folder: Path, meta: IndexMeta) -> None:
    text = json.dumps(asdict(meta), indent=2) + "\n"
    write_file(folder / "meta.json", lambda path: path.write_text(text))


def _line(picture: Picture) -> bytes:
    values = asdict(picture)
    if not picture.shard:
        values = {name: values[name] for name in ("path", "size", "mtime_ns")}
    return json.dumps(values).encode() + b"\n"


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
