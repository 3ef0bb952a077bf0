"""Making the index of many shards once, by all processes that see the same cache folder.

Nobody leads. Who finds no index that fits the shards takes parts of the work, some shards each, in
an order of its own; a part is a small index beside the one that is to be, held by a lock while it
is made. Who finds all parts there joins them. So a run's processes share the walk over the tars,
two runs that start at once share it, a killed one leaves what it has done to the next, and where
several machines have a cache folder each, each machine makes its own.
"""

import contextlib
import hashlib
import io
import os
import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diptych.data.files import Store, stamp_of
from diptych.data.remote import shown
from diptych.data.shard_index import UNREADABLE, Record, ShardIndex, record, write_index
from diptych.data.workers import Note, in_order
from diptych.distributed import Peers
from diptych.durable import lock, sweep, write_file
from diptych.errors import DataError, DataWarning
from diptych.threads import ahead

_PART = 32
"""Shards of a part."""
_THREADS = 16
"""That ask for sizes and times at once: on a network file system each waits."""
_FEW = 1000
"""Shards that every process indexes for itself where no index can be kept."""
_SLICE = 0.2
"""Seconds between two looks whether others have made what this process waits for."""


def open_index(
    paths: Sequence[str],
    cache: Path,
    *,
    workers: int = 0,
    peers: Peers | None = None,
    named: bool = False,
    flags: str = "--data.",
    store: Store | None = None,
) -> ShardIndex:
    """The index of these shards: the one in the cache folder, if each shard has the size and time
    that it had then. Shards that are new or changed are walked, by `workers` processes of each of
    the `peers`; what any index in the folder knows isn't walked again. With a `store` they lie
    there, and not in the file system.

    Raises DataError for a shard that was `named` and doesn't exist, and where the index of more
    than a thousand shards can't be kept; of fewer each process makes its own, with a DataWarning.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych.batch import Sample
    >>> from diptych.data import write_shards
    >>> from diptych.data.indexing import open_index
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cat = Sample(key="", image=b"\\xff\\xd8...", captions=("a cat",))
    ...     shards = write_shards(folder, [cat] * 5, per_shard=2)
    ...     index = open_index([str(path) for path in shards], Path(folder, "cache"))
    ...     len(index), index.locate(4), index.shard(2).members(0)
    (5, (2, 0), {'jpg': (512, 5), 'txt': (1536, 5)})
    """
    peers = peers or Peers()
    versions = _versions(paths, peers, store)
    if named and (missing := np.flatnonzero(versions[:, 0] == _ABSENT)).size:
        raise DataError(f"{paths[missing[0]]} doesn't exist")
    places = paths if store else map(os.path.abspath, paths)
    keys = np.array([stamp_of(place) for place in places], "<u8")
    folder = cache / "index"
    # Paths are kept as they were given: those from another folder are others.
    target = folder / f"{_name(paths, keys.tobytes())}.index"
    made = _Maker(paths, keys, versions, target, store)
    try:
        return made.get(workers)
    except OSError as error:
        reason = error.strerror or str(error)
        other = f"; name another folder in {flags}cache" if flags == "--data." else ""
        said = f"the index of {len(paths):,} shards can't be kept in {folder}: {reason}{other}"
        if len(paths) > _FEW:
            raise DataError(said) from error
        warnings.warn(f"{said} (this time each process makes its own)", DataWarning, stacklevel=2)
        return made.alone()


_ABSENT = -1
"""Size of a shard that isn't there."""


def _name(paths: Sequence[str], *more: bytes) -> str:
    digest = hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape"))
    for each in more:
        digest.update(each)
    return digest.hexdigest()[:32]


def _versions(paths: Sequence[str], peers: Peers, store: Store | None = None) -> np.ndarray:
    """Size and time of each shard, [shards, 2]. Each process asks for its share."""
    found = np.zeros((len(paths), 2), np.int64)

    def ask(numbers: range) -> None:
        for number in numbers:
            try:
                if store:
                    found[number] = store.state(paths[number])
                else:
                    state = os.stat(paths[number])
                    found[number] = state.st_size, state.st_mtime_ns
            except (OSError, DataError):
                found[number] = _ABSENT

    own = range(peers.rank, len(paths), peers.size)
    if store:
        parts = [own[place : place + 1] for place in range(len(own))]
    else:
        parts = [own[start::_THREADS] for start in range(_THREADS if len(own) > _PART else 0)]
    if parts:
        named = partial(_first, paths) if store else None
        for _ in ahead(ask, parts, _THREADS, 4 * _THREADS, named):
            pass
    else:
        ask(own)
    return peers.sum(torch.from_numpy(found).to(peers.device)).cpu().numpy()


def _first(paths: Sequence[str], numbers: range) -> str:
    return shown(paths[numbers[0]])


@dataclass(frozen=True)
class _Maker:
    """Makes the index `target` of shards as they are now."""

    paths: Sequence[str]
    keys: np.ndarray
    versions: np.ndarray
    target: Path
    store: Store | None

    def get(self, workers: int) -> ShardIndex:
        """Raises OSError where nothing can be written."""
        while True:
            stamp = _stamp(self.target)
            found = _opened(self.target, self.store)
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

    def alone(self) -> ShardIndex:
        """In memory."""
        file = io.BytesIO()
        records = map(self.record, range(len(self.paths)))
        write_index(file, self.paths, self.keys, self.versions, records)
        return ShardIndex(file.getvalue(), store=self.store)

    def record(self, shard: int) -> Record:
        """Walk a shard."""
        return record(self.paths[shard], self.store)

    def _fits(self, index: ShardIndex) -> bool:
        """Whether it is of these shards as they are, as far as they can be read."""
        rows = index.rows
        same = (
            np.array_equal(rows["bytes"], self.versions[:, 0])
            and np.array_equal(rows["modified"], self.versions[:, 1])
            and np.array_equal(rows["key"], self.keys)
        )
        if not same:
            return False
        unreadable = np.flatnonzero(rows["state"] == UNREADABLE).tolist()
        return all(self.record(shard).state == UNREADABLE for shard in unreadable)

    def _known(self) -> list[tuple[ShardIndex | None, int]]:
        """Each shard's place in an index of the folder that knows it as it is now."""
        known: list[tuple[ShardIndex | None, int]] = [(None, 0)] * len(self.paths)
        for place in sorted(self.target.parent.glob("*.index")):
            if (index := _opened(place, self.store)) is None or not len(index.rows):
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
        known: Sequence[tuple[ShardIndex | None, int]],
        parts: Sequence[Sequence[int]],
    ) -> ShardIndex:
        """Write the target, from what was known and the parts. Held by its lock."""
        made, folder = dict[int, Callable[[], Record]](), self.target.with_suffix(".parts")
        for number, part in enumerate(parts if len(parts) > 1 else ()):
            index = ShardIndex.open(_Parts(self, parts, None).place(number), self.store)
            made |= {shard: partial(index.record, row) for row, shard in enumerate(part)}

        def records() -> Iterator[Record]:
            for shard, (index, row) in enumerate(known):
                if index is not None:
                    yield index.record(row)
                else:
                    yield made[shard]() if shard in made else self.record(shard)

        def write(place: Path) -> None:
            with place.open("wb") as file:
                write_index(file, self.paths, self.keys, self.versions, records())

        sweep(self.target.parent, self.target.name)  # a killed writer's
        write_file(self.target, write)
        shutil.rmtree(folder, ignore_errors=True)
        return ShardIndex.open(self.target, self.store)


@dataclass(frozen=True)
class _Parts:
    """Part number -> a file of it, unless another process is making it. What is wrong with the
    folder, as OSError has it."""

    maker: _Maker
    parts: Sequence[Sequence[int]]
    stamp: object
    """The target's, when the parts were found missing: where it has another by now, they aren't."""

    def place(self, number: int) -> Path:
        """Where the part is, or will be: named by its shards, as they are now."""
        paths = [self.maker.paths[shard] for shard in self.parts[number]]
        versions = self.maker.versions[self.parts[number]].tobytes()
        return self.maker.target.with_suffix(".parts") / f"{_name(paths, versions)}.index"

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
            write_index(file, paths, self.maker.keys[shards], versions, records())


def _opened(place: Path, store: Store | None) -> ShardIndex | None:
    """None: there is none, or it isn't whole."""
    try:
        return ShardIndex.open(place, store)
    except (OSError, ValueError):
        return None


def _stamp(place: Path) -> tuple[int, int] | None:
    """Another one where the file was replaced."""
    try:
        state = place.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns
