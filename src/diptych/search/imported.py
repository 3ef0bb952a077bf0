"""Indexes from clip-retrieval's folders (`search/clip_retrieval.py`)."""

import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from diptych.encoder import Encoder
from diptych.errors import ConfigError, DataError, DataWarning, ImageError
from diptych.search import meta, writer
from diptych.search.clip_retrieval import Holds, held, read_parts
from diptych.search.columns import stacked
from diptych.search.pictures import Picture, digest, members_of, shard_of

_ROWS = 65536
_PATH, _TEXT = "image_path", "caption"
_TRIED, _ALIKE = 8, 0.95
"""Pictures by which is seen whose vectors they are, and their cosine at least: half precision and
other decoders move them by less."""


def import_index(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str],
    encoder: Encoder,
    holds: Holds | None = None,
) -> int:
    """Make the new index `folder` of what clip-retrieval wrote in `source`, and say how many
    vectors it has; `holds`: of its pictures or of its texts, by default of pictures, if it has any.
    All columns of the metadata are kept; vectors without a direction are left out.

    The vectors must be `encoder`'s: that is seen by texts, or pictures that are there, and where
    none is, a DataWarning says so. An import that ends early leaves no index. Raises DataError for
    files that can't be read or don't belong together, ConfigError for vectors of another model, and
    where `folder` is an index.
    """
    holds = holds or held(Path(source))
    parts = read_parts(Path(source), holds)
    _refuse_existing(folder)
    for vectors, _ in parts:
        if vectors.shape[1] != encoder.width:
            raise ConfigError(
                f"{source} holds vectors of {vectors.shape[1]} numbers, and those of "
                f"{encoder.name} have {encoder.width}"
            )
    entries = [_entries(Path(source), table, holds) for _, table in parts]
    _check_model(source, [vectors for vectors, _ in parts], entries, encoder)
    half = all(vectors.dtype == np.float16 for vectors, _ in parts)
    about = meta.IndexMeta(
        model=encoder.identity,
        width=encoder.width,
        vectors="float16" if half else "float32",
        holds=holds,
    )
    sound = [_sound(vectors) for vectors, _ in parts]
    known = [_known(table, rows) for (_, table), rows in zip(parts, sound, strict=True)]
    with meta.locked(folder):
        _refuse_existing(folder)  # another process may just have made it
        rows = _rows([vectors for vectors, _ in parts], entries, sound)
        writer.create(folder, about, rows, stacked(known))
    return sum(map(len, sound))


def _refuse_existing(folder: str | os.PathLike[str]) -> None:
    if meta.exists(folder):
        raise ConfigError(f"{folder} is an index already; choose another name")


def _sound(vectors: np.ndarray) -> Int[np.ndarray, " rows"]:
    """The rows that have a direction."""
    found = np.zeros(len(vectors), bool)
    for start in range(0, len(vectors), _ROWS):
        some = torch.from_numpy(vectors[start : start + _ROWS].astype(np.float32))
        found[start : start + _ROWS] = some.isfinite().all(1) & (some.norm(dim=1) > 0)
    return np.flatnonzero(found)


def _known(table: Any, rows: Int[np.ndarray, " rows"]) -> Any:
    """What the index keeps of these rows; their paths stand in its entries."""
    return table.select([name for name in table.column_names if name != _PATH]).take(rows)


def _rows(
    vectors: Sequence[np.ndarray],
    entries: Sequence[list[Picture]],
    sound: Sequence[Int[np.ndarray, " _"]],
) -> Iterator[tuple[list[Picture], Tensor]]:
    for part, pictures, rows in zip(vectors, entries, sound, strict=True):
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            numbers = torch.from_numpy(part[some].astype(np.float32))
            yield [pictures[row] for row in some], _units(numbers)


def _units(vectors: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
    """Of length 1. Those that are so already, but for rounding, stay as they are, bit for bit."""
    off = (vectors.norm(dim=1, keepdim=True) - 1).abs()
    return torch.where(off < 1e-6, vectors, normalize(vectors, dim=1))


def _entries(source: Path, table: Any, holds: Holds) -> list[Picture]:
    if holds == "pictures":
        return _pictures(source, table)
    if _TEXT not in table.column_names:
        raise DataError(f"the metadata of {source} has no texts, which are in a column {_TEXT}")
    return _texts(os.path.abspath(source), table[_TEXT].to_pylist())


def _texts(file: str, texts: Sequence[object]) -> list[Picture]:
    """As those of a table's texts."""
    found = list[Picture]()
    for number, text in enumerate(map(str, texts), 1):
        data = text.encode()
        found.append(
            Picture(
                path=f"{file}#{number}",
                size=len(data),
                mtime_ns=0,
                shard=file,
                length=len(data),
                digest=digest(data),
                text=text,
            )
        )
    return found


def _pictures(source: Path, table: Any) -> list[Picture]:
    """An entry for each row, of its file or in its shard if that is there."""
    read = cache(_members)
    names = [""] * len(table)
    if _PATH in table.column_names:
        names = [str(name or "") for name in table[_PATH].to_pylist()]
    found = list[Picture]()
    for number, name in enumerate(names):
        path = os.path.abspath(os.path.join(source, name or f"#{number}"))
        path = path if os.path.exists(path) or not os.path.exists(name) else os.path.abspath(name)
        if (shard := shard_of(path)) and (member := read(shard).get(path)):
            found.append(member)
            continue
        try:
            status = os.stat(path)
            size, written = status.st_size, status.st_mtime_ns
        except (OSError, ValueError):
            size, written = 0, 0
        found.append(Picture(path=path, size=size, mtime_ns=written))
    return found


def _members(shard: str) -> dict[str, Picture]:
    """None, of a shard that can't be read: its pictures are as those that aren't there."""
    try:
        return members_of(shard)
    except (DataError, OSError):
        return {}


def _check_model(
    source: Any, vectors: Sequence[np.ndarray], entries: Sequence[list[Picture]], encoder: Encoder
) -> None:
    """Raises ConfigError if texts, or pictures that are there, have other vectors."""
    scores = list[float]()
    for part, pictures in zip(vectors, entries, strict=True):
        for row in [row for row, picture in enumerate(pictures) if picture.size][:_TRIED]:
            try:
                expected = _vector(pictures[row], encoder)
            except (ImageError, OSError):
                continue
            told = torch.from_numpy(part[row].astype(np.float32))
            scores.append(float(normalize(told, dim=0) @ expected))
        if scores:
            break
    if not scores:
        warnings.warn(
            f"none of the pictures of {source} is here, so whether {encoder.name} made its vectors "
            "can't be seen",
            DataWarning,
            stacklevel=3,
        )
    elif np.median(scores) < _ALIKE:
        raise ConfigError(
            f"{encoder.name} didn't make the vectors of {source}: their cosine with its own of "
            f"{len(scores)} of them is {np.median(scores):.3f}; name the model that did"
        )


def _vector(entry: Picture, encoder: Encoder) -> Float[Tensor, " width"]:
    if entry.text:
        return encoder.embed_texts([entry.text])[0]
    return encoder.embed_images(entry.read())[0]
