"""What of an index stays when its places are looked at again, and what is to be encoded."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from diptych.encoder import extract
from diptych.errors import DataError
from diptych.search.pictures import Listing, Picture, digest
from diptych.search.store import Store
from diptych.search.writer import rewrite

_THREADS = 8


@dataclass(kw_only=True)
class Settled:
    """What became of the entries, and what is new."""

    is_new: bool = False
    """Whether there was no index."""
    kept: int = 0
    removed: int = 0
    known: int = 0
    """New under their names, and known by their content."""
    renamed: int = 0
    """Of those, the entries of old names that are kept although nothing is there."""
    damaged: int = 0
    stale: set[str] = field(default_factory=set[str])
    """Paths of entries whose files look different now."""
    absent: Counter[str] = field(default_factory=Counter[str])
    """Entries kept unseen, by what couldn't be looked at."""
    new: list[Picture] = field(default_factory=list[Picture])
    """To be encoded."""


def settle(folder: str | os.PathLike[str], listing: Listing, prune: bool) -> Settled:
    """Let the index hold what stays: what is there as it was, what can't be seen now (unless
    `prune`, and it isn't there), and, by content, what was touched, renamed or moved."""
    index, settled = Store(folder), Settled()
    settled.damaged = index.damaged
    _look_for_damaged(index, listing)
    rows, kept, by_content = list[tuple[int, Picture]](), set[str](), dict[str, int]()
    lengths = set[int]()
    for row in np.flatnonzero(index.sound).tolist():
        picture = index.picture(row)
        if listing.pictures.get(picture.path, picture) != picture:
            listing.try_to_open(listing.pictures[picture.path])
        if picture.digest:
            by_content[picture.digest] = row
            lengths.add(picture.nbytes)
        found = listing.pictures.get(picture.path)
        if found == picture and picture.path not in kept:
            kept.add(picture.path)
        elif found is not None:
            settled.stale.add(picture.path)
            continue
        elif listing.is_gone(picture) or (prune and _is_not_there(picture, listing)):
            settled.removed += 1
            continue
        elif listing.covers(picture.path):
            settled.absent[listing.unseen(picture.file)] += 1
        rows.append((row, picture))
    settled.stale -= kept
    settled.kept = len(kept)
    settled.new = [picture for path, picture in listing.pictures.items() if path not in kept]
    alike = [picture for picture in settled.new if picture.nbytes in lengths]
    taken = _take_over(alike, by_content)
    if taken or len(rows) < len(index) or index.lost or not index.is_current:
        rewrite(folder, [*rows, *taken.values()])
    touched = len(settled.stale & taken.keys())
    settled.kept += touched
    settled.known = len(taken) - touched
    names = dict(rows)
    old = {names[row].file for row, _ in taken.values() if row in names}
    settled.renamed = sum(not os.path.lexists(file) for file in old)
    settled.new = [picture for picture in settled.new if picture.path not in taken]
    return settled


def _look_for_damaged(index: Store, listing: Listing) -> None:
    """Damaged entries of other places are made again, too, where their files are there."""
    for row in np.flatnonzero(~index.sound).tolist():
        try:
            picture = index.picture(row)
        except DataError:
            continue
        if not listing.covers(picture.path) and os.path.isfile(picture.file):
            listing.add(picture.file)


def _is_not_there(picture: Picture, listing: Listing) -> bool:
    """Whether a picture that wasn't found isn't there, as far as can be known."""
    if listing.covers(picture.path):
        return listing.unseen(picture.file) not in listing.unread
    try:
        os.stat(picture.file)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _take_over(
    pictures: Iterable[Picture], rows: Mapping[str, int]
) -> dict[str, tuple[int, Picture]]:
    """Path -> the row of the same picture, and the picture."""
    taken = dict[str, tuple[int, Picture]]()
    for picture, found in _digests(pictures):
        if found in rows:
            taken[picture.path] = rows[found], replace(picture, digest=found)
    return taken


def _digests(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, str]]:
    """Empty for what can't be read: encoding it will say so."""

    def read(picture: Picture) -> str:
        try:
            return digest(picture.read())
        except (DataError, OSError):
            return ""

    parts = extract(pictures, read, list[str], batch_size=64, threads=_THREADS)
    for some, digests in parts:
        yield from zip(some, digests, strict=True)
