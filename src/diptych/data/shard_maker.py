"""Making a file of records of many shards once, by all processes that see the same cache folder.

Nobody leads. Who finds no file that fits the shards takes parts of the work, some shards each, in
an order of its own; a part is a small file beside the one that is to be, held by a lock while it
is made. Who finds all parts there joins them. So a run's processes share the work, two runs that
start at once share it, a killed one leaves what it has done to the next, and where several machines
have a cache folder each, each machine makes its own.
"""

import contextlib
import hashlib
import io
import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from diptych.data.files import Store
from diptych.data.remote import shown
from diptych.data.shard_records import UNREADABLE, PerShard, Record, write_records
from diptych.data.workers import Note, in_order
from diptych.durable import lock, write_file
from diptych.errors import DataError, DataWarning

T = TypeVar("T", bound=PerShard)

_PART = 32
"""Shards of a part."""
_FEW = 1000
"""Shards that every process works through for itself where no file can be kept."""
_SLICE = 0.2
"""Seconds between two looks whether others have made what this process waits for."""


def name_of(paths: Sequence[str], *more: bytes) -> str:
    """A name for these paths, and whatever else tells them apart."""
    digest = hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape"))
    for each in more:
        digest.update(each)
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Maker(Generic[T]):
    """Makes the file `target`, with a record for each of these shards as they are now."""

    kind: type[T]
    """What reads the file."""
    record: Callable[[int], Record]
    """Works a shard through."""
    paths: Sequence[str]
    keys: np.ndarray
    """A hash of each path."""
    versions: np.ndarray
    """Its size and time."""
    target: Path
    others: str
    """A pattern of the files in the folder that hold records of the same kind."""
    store: Store | None

    def get(self, workers: int, what: str, flags: str) -> T:
        """The file, if each shard has the size and time that it had then. Shards that are new or
        changed are worked through, by `workers` processes of everyone who asks; what any file in
        the folder knows isn't done again.

        Raises DataError where the records of more than a thousand shards can't be kept; of fewer
        each process makes its own, with a DataWarning. `what` they are, and `flags`, are for
        messages.
        """
        try:
            return self._get(workers)
        except OSError as error:
            reason, folder = error.strerror or str(error), self.target.parent
            other = f"; name another folder in {flags}cache" if flags == "--data." else ""
            shards = f"{len(self.paths):,} shards"
            said = f"the {what} of {shards} can't be kept in {folder}: {reason}{other}"
            if len(self.paths) > _FEW:
                raise DataError(said) from error
            said += " (this time each process makes its own)"
            warnings.warn(said, DataWarning, stacklevel=2)
            return self._alone()

    def _get(self, workers: int) -> T:
        """Raises OSError where nothing can be written."""
        while True:
            stamp = _stamp(self.target)
            found = self._opened(self.target)
            if found is not None and self._fits(found):
                # A process that came late to a part made the folder of the parts anew.
                shutil.rmtree(self.target.with_suffix(".parts"), ignore_errors=True)
                return found
            known = self._known()
            new = [number for number, (index, _) in enumerate(known) if index is None]
            if new and self.store is not None:
                self.store.check(self.paths[new[0]])
            parts = [new[start : start + _PART] for start in range(0, len(new), _PART)]
            if len(parts) > 1:
                self._make_parts(parts, stamp, workers)
            try:
                with lock(self.target.with_suffix(".lock")):
                    if _stamp(self.target) == stamp:
                        return self._join(known, parts)
            except BlockingIOError:
                time.sleep(_SLICE)
            except FileNotFoundError:  # without locks another may have joined the parts just now
                if _stamp(self.target) == stamp:
                    raise

    def _alone(self) -> T:
        """In memory."""
        file = io.BytesIO()
        records = map(self.record, range(len(self.paths)))
        write_records(file, self.paths, self.keys, self.versions, records)
        return self.kind(file.getvalue(), store=self.store)

    def _opened(self, place: Path) -> T | None:
        """None: there is none, or it isn't whole."""
        try:
            return self.kind.open(place, self.store)
        except (OSError, ValueError):
            return None

    def _fits(self, found: T) -> bool:
        """Whether it is of these shards as they are, as far as they can be read."""
        rows = found.rows
        same = (
            np.array_equal(rows["bytes"], self.versions[:, 0])
            and np.array_equal(rows["modified"], self.versions[:, 1])
            and np.array_equal(rows["key"], self.keys)
        )
        if not same:
            return False
        unreadable = np.flatnonzero(rows["state"] == UNREADABLE).tolist()
        return all(self.record(shard).state == UNREADABLE for shard in unreadable)

    def _known(self) -> list[tuple[T | None, int]]:
        """Each shard's place in a file of the folder that knows it as it is now."""
        known: list[tuple[T | None, int]] = [(None, 0)] * len(self.paths)
        for place in sorted(self.target.parent.glob(self.others)):
            if (index := self._opened(place)) is None or not len(index.rows):
                continue
            order = np.argsort(index.rows["key"])
            near = np.searchsorted(index.rows["key"], self.keys, sorter=order)
            row = order[np.minimum(near, len(order) - 1)]
            same = index.rows[row]
            fits = (same["key"] == self.keys) & (same["state"] != UNREADABLE)
            fits &= (same["bytes"] == self.versions[:, 0]) & (
                same["modified"] == self.versions[:, 1]
            )
            for number in np.flatnonzero(fits).tolist():
                known[number] = index, int(row[number])
        return known

    def _make_parts(self, parts: Sequence[Sequence[int]], stamp: object, workers: int) -> None:
        """Return when all parts are there, or the target has come."""
        make = _Parts(self, parts, stamp)
        order = random.Random().sample(range(len(parts)), len(parts))
        with contextlib.closing(in_order(make, order, min(workers, len(parts)))) as answers:
            for wrong in answers:
                if wrong:
                    raise OSError(*wrong)
        # What others had in hand a moment ago: they finish it, or are killed.
        while _stamp(self.target) == stamp:
            order = [number for number in order if not make.place(number).exists()]
            if not order:
                break
            if wrong := make(order[0], Note()):
                raise OSError(*wrong)
            time.sleep(_SLICE)

    def _join(
        self,
        known: Sequence[tuple[T | None, int]],
        parts: Sequence[Sequence[int]],
    ) -> T:
        """Write the target, from what was known and the parts. Held by its lock."""
        made, folder = dict[int, Callable[[], Record]](), self.target.with_suffix(".parts")
        for number, part in enumerate(parts if len(parts) > 1 else ()):
            index = self.kind.open(_Parts(self, parts, None).place(number), self.store)
            made |= {shard: partial(index.record, row) for row, shard in enumerate(part)}

        def recorded(shard: int) -> Record:
            index, row = known[shard]
            try:
                return index.record(row) if index is not None else made[shard]()
            except (KeyError, ValueError):  # nobody has done it, or the disk has changed it
                return self.record(shard)

        def write(place: Path) -> None:
            with place.open("wb") as file:
                records = map(recorded, range(len(known)))
                write_records(file, self.paths, self.keys, self.versions, records)

        write_file(self.target, write)
        shutil.rmtree(folder, ignore_errors=True)
        return self.kind.open(self.target, self.store)


@dataclass(frozen=True)
class _Parts:
    """Part number -> a file of it, unless another process is making it. What is wrong with the
    folder, as OSError has it."""

    maker: Maker[Any]
    parts: Sequence[Sequence[int]]
    stamp: object
    """The target's, when the parts were found missing: where it has another by now, they aren't."""

    def place(self, number: int) -> Path:
        """Where the part is, or will be: named by its shards, as they are now."""
        paths = [self.maker.paths[shard] for shard in self.parts[number]]
        versions = self.maker.versions[self.parts[number]].tobytes()
        return self.maker.target.with_suffix(".parts") / f"{name_of(paths, versions)}.index"

    def __call__(self, item: int, note: Note) -> tuple[int, str] | None:
        place = self.place(item)
        try:
            with lock(place.with_suffix(".lock")):
                if not place.exists() and _stamp(self.maker.target) == self.stamp:
                    write_file(place, partial(self._write, self.parts[item], note))
        except BlockingIOError:
            pass
        except OSError as error:
            return error.errno or 0, error.strerror or str(error)
        return None

    def _write(self, shards: Sequence[int], note: Note, place: Path) -> None:
        paths = [self.maker.paths[shard] for shard in shards]

        def records() -> Iterator[Record]:
            for shard in shards:
                note.reading(partial(shown, self.maker.paths[shard]))
                yield self.maker.record(shard)

        with place.open("wb") as file:
            versions = self.maker.versions[shards]
            write_records(file, paths, self.maker.keys[shards], versions, records())


def _stamp(place: Path) -> tuple[int, int] | None:
    """Another one where the file was replaced."""
    try:
        state = place.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns
