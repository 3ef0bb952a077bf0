"""Only the samples whose ids a file lists, as DataComp has it, without writing the shards anew.

A sample whose id is listed several times comes as often in an epoch, as DataComp's resharder copies
it (Gadre et al. 2023, arXiv:2304.14108). Ids that no sample has change nothing.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from diptych.data.files import file_version
from diptych.data.id_file import first_ids, read_ids
from diptych.data.ids import ID, KEY, NONE, Ids, Values
from diptych.data.joined import Chosen
from diptych.data.mapped_file import mapped_once
from diptych.data.probes import spread
from diptych.data.source import Source
from diptych.errors import DataError

_PIECE = 1 << 18
"""Samples whose ids are compared at a time."""
_TRIED = 16
"""Samples that are asked for their id before all are."""
_ROW = np.dtype("<i8")


@dataclass(frozen=True)
class KeptIds:
    """The ids in a file, sorted and mapped into memory. Made by `open_kept`."""

    path: Path
    field: str
    """Where samples have theirs: a field of the json, a member's ending, a column, or
    `__key__`."""
    values: Values
    digest: str
    """Another one for other ids, or another field."""


def open_kept(path: str, field: str, cache: Path) -> KeptIds:
    """The ids in the file `path`. Raises DataError in one sentence where it can't be read."""
    place = Path(path).expanduser()

    def write(target: Path) -> dict[str, Any]:
        with target.open("wb") as file:
            for values in read_ids(place, field):
                file.write(values.tobytes())
        table, digest = np.memmap(target, ID, "r+"), hashlib.blake2b(field.encode(), digest_size=16)
        table.sort()
        for start in range(0, len(table), _PIECE):
            digest.update(table[start : start + _PIECE].tobytes())
        table.flush()
        if _version(place, field) != version:
            raise DataError(f"{path}, a file of ids, was changed while it was read: start again")
        return {"digest": digest.hexdigest()}

    version = _version(place, field)
    values, about = mapped_once(cache / "keep" / f"{version}.ids", ID, write)
    return KeptIds(place, field, values, about["digest"])


def _version(path: Path, field: str) -> str:
    try:
        return file_version(path, field)
    except OSError as error:
        raise DataError(f"{path}, a file of ids, can't be read: {error.strerror}") from None


class _Matched(NamedTuple):
    rows: Int64[np.ndarray, " n"]
    """Which samples, each as often as its id is listed, in rising order."""
    distinct: int
    nameless: int
    """Samples without an id."""


def keep(source: Source, kept: KeptIds, name: str, cache: Path) -> tuple[Source, str]:
    """The samples of a source that are listed, and how many these are, in a sentence. Raises
    DataError where there are none."""
    _refuse_nameless(source, kept.field, name)
    found = _matched(source.ids(kept.field), kept, cache)
    if not len(found.rows):
        raise DataError(_said_of_none(source, kept, name))
    return Chosen(source, found.rows, kept.digest), _said(source, kept, found, name)


def _refuse_nameless(source: Source, field: str, name: str) -> None:
    """Ask a few, before all are read for nothing."""
    reasons, tried = list[str](), spread(len(source), _TRIED)
    for index in tried:
        try:
            source.id_of(index, field)
            return
        except (DataError, OSError) as error:
            reasons.append(str(error))
    if reasons:
        raise DataError(
            f"none of {len(tried)} samples tried of {name} has an id in {field!r} (the first: "
            f"{reasons[0]}): name a field of the json, a member's ending, a column or {KEY} (the "
            "samples' keys) in --data.keep-field"
        )


def _matched(ids: Ids, kept: KeptIds, cache: Path) -> _Matched:
    """Compared once: the same ids and the same samples find the rows in the cache folder."""

    def write(target: Path) -> dict[str, Any]:
        distinct, values = 0, ids.read()
        with target.open("wb") as file:
            for rows in _rows(values, kept.values):
                distinct += len(np.unique(rows))
                file.write(rows.astype(_ROW).tobytes())
        nameless = sum(np.count_nonzero(piece == NONE) for _, piece in _pieces(values))
        return {"distinct": distinct, "nameless": int(nameless)}

    both = hashlib.blake2b(f"{kept.digest} {ids.identity}".encode(), digest_size=16).hexdigest()
    rows, about = mapped_once(cache / "keep" / f"{both}.rows", _ROW, write)
    return _Matched(rows, about["distinct"], about["nameless"])


def _pieces(values: Values) -> Iterator[tuple[int, Values]]:
    for start in range(0, len(values), _PIECE):
        yield start, values[start : start + _PIECE]


def _rows(values: Values, kept: Values) -> Iterator[Int64[np.ndarray, " n"]]:
    for start, piece in _pieces(values):
        # Looked up in rising order, so that the kept ids are read forward.
        order = np.argsort(piece)
        ranked = piece[order]
        counts = np.empty(len(piece), np.int64)
        counts[order] = np.searchsorted(kept, ranked, "right") - np.searchsorted(kept, ranked)
        counts[piece == NONE] = 0
        yield np.repeat(np.arange(start, start + len(piece)), counts)


def _said(source: Source, kept: KeptIds, found: _Matched, name: str) -> str:
    share = 100 * found.distinct / len(source)
    said = (
        f"{kept.path} with {len(kept.values):,} ids keeps {found.distinct:,} of {len(source):,} "
        f"samples of {name} ({share:.3g} %)"
    )
    if more := len(found.rows) - found.distinct:
        said += f", and {more:,} times one of them again, because its id is listed several times"
    if 2 * len(found.rows) < len(kept.values):
        said += "; most of the ids are of no sample there"
    if found.nameless:
        said += f"; {found.nameless:,} samples have no id in {kept.field!r}"
    return said


def _said_of_none(source: Source, kept: KeptIds, name: str) -> str:
    theirs, own = first_ids(kept.path, kept.field, 2), list[str]()
    for index in spread(len(source), _TRIED):
        with contextlib.suppress(DataError, OSError):
            own.append(source.id_of(index, kept.field))
    several = "; of several sources give each a file of its own, A.npy::B.npy, or none, A.npy::"
    return (
        f"none of the {len(kept.values):,} ids in {kept.path} ({', '.join(theirs)}, …) is one of "
        f"{name} ({', '.join(own[:2])}, …): choose the file of these samples, or say in "
        f"--data.keep-field where they have such ids (a field, a column, or {KEY}){several}"
    )
