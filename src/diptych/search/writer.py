"""Writing into an index's folder, whose layout stands in `search/store.py`: at its end, or a new
generation beside the one that is there."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diptych.durable import sync
from diptych.encoder import Identity
from diptych.search.columns import rows_of, write_table
from diptych.search.meta import (
    FORMAT,
    IndexMeta,
    exists,
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
from diptych.search.rows import to_line
from diptych.search.store import COPY_ROWS, Store


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


def create(
    folder: str | os.PathLike[str],
    meta: IndexMeta,
    parts: Iterable[tuple[Sequence[Picture], Tensor]] = (),
    metadata: Any = None,
) -> None:
    """A new index of these pictures and unit vectors, part by part, and of what else is known of
    them all (a table of Arrow's): whole, or none."""
    _write_generation(Path(folder), replace(meta, parent=parent_of(folder)), parts, metadata)


def discard(folder: str | os.PathLike[str]) -> None:
    """Delete an index, of which nothing was there before. Only for who holds the lock."""
    folder = Path(folder)
    meta = read_meta(folder)
    (folder / "meta.json").unlink()
    for path in (vectors_path(folder, meta), items_path(folder, meta), metadata_path(folder, meta)):
        path.unlink(missing_ok=True)


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
        for start in range(0, len(rows), COPY_ROWS):
            part = rows[start : start + COPY_ROWS]
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
    parts: Iterable[tuple[Sequence[Picture], Tensor]] = (),
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
        write_meta(folder, meta)
    except BaseException:
        if not _is_current(folder, meta):
            for file in (*files, metadata_path(folder, meta)):
                file.unlink(missing_ok=True)
        raise
    sweep_generations(folder, meta)


def _is_current(folder: Path, meta: IndexMeta) -> bool:
    """Whether the generation is the one that is read, as it may be when a stop comes."""
    return exists(folder) and read_meta(folder).generation == meta.generation


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
