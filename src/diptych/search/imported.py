"""Indexes from clip-retrieval's folders: img_emb/img_emb_*.npy, metadata/metadata_*.parquet."""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from diptych.arrays import map_npy
from diptych.bounded import parse_json
from diptych.encoder import Encoder
from diptych.errors import ConfigError, DataError, DataWarning, ImageError
from diptych.search import meta, writer
from diptych.search.columns import clean, column_of, plain, read_table, stacked
from diptych.search.pictures import Picture

_ROWS = 65536
_PATH = "image_path"
_TRIED, _ALIKE = 8, 0.95
"""Pictures by which is seen whose vectors they are, and their cosine at least: half precision and
other decoders move them by less."""


def import_index(
    folder: str | os.PathLike[str], source: str | os.PathLike[str], encoder: Encoder
) -> int:
    """Make the new index `folder` of what clip-retrieval wrote in `source`, and say how many
    pictures it has. All columns of the metadata are kept; vectors without a direction are left out.

    The vectors must be `encoder`'s: that is seen by pictures that are there, and where none is, a
    DataWarning says so. An import that ends early leaves no index. Raises DataError for files that
    can't be read or don't belong together, ConfigError for vectors of another model, and where
    `folder` is an index.
    """
    parts = _parts(Path(source))
    _refuse_existing(folder)
    for vectors, _ in parts:
        if vectors.shape[1] != encoder.width:
            raise ConfigError(
                f"{source} holds vectors of {vectors.shape[1]} numbers, and those of "
                f"{encoder.name} have {encoder.width}"
            )
    entries = [_pictures(Path(source), table) for _, table in parts]
    _check_model(source, [vectors for vectors, _ in parts], entries, encoder)
    half = all(vectors.dtype == np.float16 for vectors, _ in parts)
    about = meta.IndexMeta(
        model=encoder.identity, width=encoder.width, vectors="float16" if half else "float32"
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


def _parts(source: Path) -> list[tuple[np.ndarray, Any]]:
    """Vectors and metadata, part by part."""
    files = sorted(source.glob("img_emb/img_emb_*.npy"), key=_number)
    if not files:
        raise DataError(f"{source} isn't clip-retrieval's: it has no img_emb/img_emb_0.npy")
    tables = {_number(path): path for path in source.glob("metadata/metadata_*.parquet")}
    found = list[tuple[np.ndarray, Any]]()
    for file in files:
        try:
            vectors = map_npy(file)
        except (OSError, ValueError) as error:
            raise DataError(f"{file} can't be read: {error}") from None
        if vectors.ndim != 2 or vectors.dtype.kind != "f":
            raise DataError(f"{file} holds {list(vectors.shape)} of {vectors.dtype}, no vectors")
        if _number(file) not in tables:
            raise DataError(f"{file} has no metadata/metadata_{_number(file)}.parquet beside it")
        table = _columns(read_table(tables[_number(file)]))
        if len(table) != len(vectors):
            raise DataError(
                f"{file} holds {len(vectors):,} vectors, and {tables[_number(file)]} tells of "
                f"{len(table):,} pictures"
            )
        found.append((vectors, table))
    return found


def _number(path: Path) -> int:
    digits = re.search(r"(\d+)$", path.stem)
    return int(digits[1]) if digits else -1


def _columns(table: Any) -> Any:
    """What is known, with the values of the JSON that the column `metadata` holds."""
    table = plain(table)
    if "metadata" not in table.column_names:
        return table
    rows = [_values(text) for text in table["metadata"].to_pylist()]
    table = table.drop_columns(["metadata"])
    for name in list(dict.fromkeys(name for row in rows for name in row))[:256]:
        if name not in table.column_names:
            table = table.append_column(clean(name), column_of([row.get(name) for row in rows]))
    return table


def _values(text: object) -> dict[str, object]:
    try:
        found = parse_json(text) if isinstance(text, str) else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _pictures(source: Path, table: Any) -> list[Picture]:
    """An entry for each row, of its file if that is there."""
    names = [""] * len(table)
    if _PATH in table.column_names:
        names = [str(name or "") for name in table[_PATH].to_pylist()]
    found = list[Picture]()
    for number, name in enumerate(names):
        path = os.path.abspath(os.path.join(source, name or f"#{number}"))
        path = path if os.path.exists(path) or not os.path.exists(name) else os.path.abspath(name)
        try:
            status = os.stat(path)
            size, written = status.st_size, status.st_mtime_ns
        except (OSError, ValueError):
            size, written = 0, 0
        found.append(Picture(path=path, size=size, mtime_ns=written))
    return found


def _check_model(
    source: Any, vectors: Sequence[np.ndarray], entries: Sequence[list[Picture]], encoder: Encoder
) -> None:
    """Raises ConfigError if pictures that are there have other vectors."""
    scores = list[float]()
    for part, pictures in zip(vectors, entries, strict=True):
        for row in [row for row, picture in enumerate(pictures) if picture.size][:_TRIED]:
            try:
                expected = encoder.embed_images(Path(pictures[row].path))[0]
            except ImageError:
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
            f"{len(scores)} pictures is {np.median(scores):.3f}; name the model that did"
        )
