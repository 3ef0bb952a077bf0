"""Where the samples of many shards lie: what a `PerShard` file holds of each."""

import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np

from diptych.data.files import Store, Unreachable
from diptych.data.shard_records import (
    CUT,
    REFUSED,
    UNREADABLE,
    WHOLE,
    PerShard,
    Record,
    as_bytes,
    as_text,
)
from diptych.data.tar import TarIndex, index_tar
from diptych.errors import DataError

_OPEN = 64
"""Records whose arrays are kept: views of the map."""


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def pack(index: TarIndex) -> bytes:
    """A shard's index as bytes."""
    endings = as_bytes("".join(f"{each}\0" for each in index.endings))  # no name holds a 0
    error = as_bytes(index.error)
    counts = [len(index.ends), len(index.ending), len(index.names), len(endings), len(error)]
    return b"".join(
        (
            np.array(counts, "<i8").tobytes(),
            index.ends.astype("<i8").tobytes(),
            index.name_ends.astype("<i8").tobytes(),
            index.offset.astype("<i8").tobytes(),
            index.size.astype("<i8").tobytes(),
            _filled(index.ending.astype("<u4").tobytes()),
            _filled(index.names.tobytes()),
            _filled(endings),
            _filled(error),
        )
    )


def unpack(data: memoryview) -> TarIndex:
    """What `pack` wrote, as views of `data`. Raises ValueError for anything else."""
    samples, members, names, endings, error = np.frombuffer(data, "<i8", 5).tolist()
    start = 40

    def take(kind: str, count: int) -> np.ndarray:
        nonlocal start
        found = np.frombuffer(data, kind, count, start)
        start += -(-found.nbytes // 8) * 8
        return found

    ends, name_ends = take("<i8", samples), take("<i8", samples)
    offset, size = take("<i8", members), take("<i8", members)
    return TarIndex(
        ends=ends,
        name_ends=name_ends,
        offset=offset,
        size=size,
        ending=take("<u4", members),
        names=take("u1", names),
        endings=tuple(as_text(take("u1", endings).data).split("\0")[:-1]),
        error=as_text(take("u1", error).data),
    )


def walk(path: str, store: Store | None) -> Record:
    """Walk a shard, of the file system or of `store`. What can't be read has no samples, and says
    why in its `error`."""
    state = WHOLE
    try:
        index = index_tar(store.file(path, store.state(path)) if store else Path(path))
        state = CUT if index.error else WHOLE
    except (DataError, OSError) as error:
        there = not isinstance(error, Unreachable) if store else Path(path).exists()
        state = REFUSED if isinstance(error, DataError) and there else UNREADABLE
        index = TarIndex.empty(str(error))
    packed = pack(index)
    return Record(state, len(index), packed, zlib.crc32(packed))


class ShardIndex(PerShard):
    """Where the samples of many shards lie."""

    def __init__(
        self, data: bytes | memoryview, source: Path | None = None, store: Store | None = None
    ):
        super().__init__(data, source, store)
        self._open = OrderedDict[int, TarIndex]()

    def shard(self, shard: int) -> TarIndex:
        """Where a shard's samples lie. Raises DataError where the record is lost, and the shard
        another one now."""
        if (found := self._open.get(shard)) is None:
            try:
                found = unpack(self.packed(shard))
            except ValueError:
                found = self._walked(shard)
            self._open[shard] = found
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)  # another thread may have it in hand
        return found

    def _walked(self, shard: int) -> TarIndex:
        try:
            file = self.file(shard)
            found = index_tar(Path(file) if isinstance(file, str) else file)
        except (DataError, OSError) as error:
            found = TarIndex.empty(str(error))
        if len(found) != self.samples(shard):
            raise DataError(f"{self.name(shard)} has changed since it was indexed")
        return found
