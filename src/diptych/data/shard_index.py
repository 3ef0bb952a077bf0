"""The index of many shards in one file, read through a memory map.

Only pages that are looked at are in memory, once for all processes of a machine. All numbers are
little-endian; parts begin at multiples of 8:

    HEADER     64 bytes: mark, number of shards, where the table begins, bytes of the paths, crc
    records    one a shard (`pack`): where its samples lie and what they are called
    table      one ROW a shard
    paths      UTF-8, end to end

The header's crc is of the table and the paths, a row's of its record, which is checked when it is
first read: what the disk has changed is seen, and walked anew.
"""

import mmap
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from diptych.data.files import Elsewhere, Store, Unreachable
from diptych.data.tar import TarIndex, index_tar
from diptych.errors import DataError

WHOLE, CUT, REFUSED, UNREADABLE = range(4)
"""What a shard is: all right; wrong after its last sample; no tar that is read; not to be read
just now, which is tried again at every start."""
ROW = np.dtype(
    [
        ("path", "<i8"),  # where its path ends
        ("key", "<u8"),  # a hash of its path
        ("bytes", "<i8"),  # the shard's size
        ("modified", "<i8"),  # and when it was changed, in nanoseconds
        ("start", "<i8"),  # its record
        ("length", "<i8"),
        ("end", "<i8"),  # samples in this shard and those before
        ("crc", "<u4"),
        ("state", "<u4"),
    ]
)
_HEADER = np.dtype(
    [("mark", "S16"), ("shards", "<i8"), ("table", "<i8"), ("paths", "<i8"), ("crc", "<i8")]
)
_MARK, _HEAD = b"diptych shards 1", 64
_OPEN = 64
"""Records whose arrays are kept: views of the map."""


class Record(NamedTuple):
    """What is known of a shard, to be written."""

    state: int
    samples: int
    packed: bytes | memoryview
    crc: int


def _text(data: bytes | memoryview) -> str:
    return bytes(data).decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def pack(index: TarIndex) -> bytes:
    """A shard's index as bytes."""
    endings = _bytes("".join(f"{each}\0" for each in index.endings))  # no name holds a 0
    error = _bytes(index.error)
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
        endings=tuple(_text(take("u1", endings).data).split("\0")[:-1]),
        error=_text(take("u1", error).data),
    )


def record(path: str, store: Store | None) -> Record:
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


def write_index(
    file: BinaryIO | BytesIO,
    paths: Sequence[str],
    keys: np.ndarray,
    versions: np.ndarray,
    records: Iterable[Record],
) -> None:
    """Write the index of `paths`, one after the other; `versions` [shards, 2] are their sizes and
    times."""
    rows = np.zeros(len(paths), ROW)
    names, position, samples = bytearray(), _HEAD, 0
    file.write(bytes(_HEAD))
    for number, (path, each) in enumerate(zip(paths, records, strict=True)):
        file.write(each.packed)
        names += _bytes(path)
        samples += each.samples
        row = rows[number]
        row["path"], row["start"], row["length"] = len(names), position, len(each.packed)
        row["end"], row["crc"], row["state"] = samples, each.crc, each.state
        position += len(each.packed)
    rows["key"], rows["bytes"], rows["modified"] = keys, versions[:, 0], versions[:, 1]
    table = rows.tobytes() + names
    file.write(table)
    header = np.zeros(1, _HEADER)
    header[0] = (_MARK, len(paths), position, len(names), zlib.crc32(table))
    file.seek(0)
    file.write(header.tobytes())


class ShardIndex:
    """The samples of many shards, numbered one after the other; the shards lie in the file system,
    or in `store`. Raises ValueError for data that `write_index` didn't write so."""

    def __init__(
        self, data: bytes | memoryview, source: Path | None = None, store: Store | None = None
    ):
        self._data, self._source, self._store = memoryview(data), source, store
        if len(self._data) < _HEAD:
            raise ValueError("it is no index of shards")
        mark, shards, start, names, crc = np.frombuffer(self._data, _HEADER, 1)[0].tolist()
        middle, end = start + shards * ROW.itemsize, start + shards * ROW.itemsize + names
        if mark != _MARK or min(shards, start, names) < 0 or end != len(self._data):
            raise ValueError("it is no index of shards")
        if zlib.crc32(self._data[start:end]) != crc:
            raise ValueError("it has changed on the disk")
        self.rows = np.frombuffer(self._data, ROW, shards, start)
        self._names = self._data[middle:end]
        self._ends = np.ascontiguousarray(self.rows["end"])  # as a search wants it
        self._checked = np.zeros(shards, bool)
        self._open = OrderedDict[int, TarIndex]()

    @classmethod
    def open(cls, path: Path, store: Store | None = None) -> "ShardIndex":
        """Map a file. Raises OSError, and ValueError as the class."""
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            return cls(data, path, store)

    def __reduce__(self):
        if self._source is not None:
            return (ShardIndex.open, (self._source, self._store))
        return (ShardIndex, (bytes(self._data), None, self._store))

    def __len__(self) -> int:
        """Samples of all shards."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def path(self, shard: int) -> str:
        """Where a shard lies."""
        start = self.rows["path"][shard - 1] if shard else 0
        return _text(self._names[start : self.rows["path"][shard]])

    def file(self, shard: int) -> str | Elsewhere:
        """What a shard is read from."""
        row, path = self.rows[shard], self.path(shard)
        state = int(row["bytes"]), int(row["modified"])
        return self._store.file(path, state) if self._store else path

    def name(self, shard: int) -> str:
        """The shard's path, for people."""
        return str(self.file(shard))

    def paths(self) -> Iterator[str]:
        """Of all shards that are read."""
        return (self.path(int(n)) for n in np.flatnonzero(self.rows["state"] < REFUSED))

    def locate(self, sample: int) -> tuple[int, int]:
        """(shard, which of its samples)."""
        shard = int(np.searchsorted(self._ends, sample, side="right"))
        return shard, sample - self._first(shard)

    def _first(self, shard: int) -> int:
        """How many samples lie in the shards before."""
        return int(self._ends[shard - 1]) if shard else 0

    def packed(self, shard: int) -> memoryview:
        """The record of a shard. Raises ValueError where it isn't what was written."""
        row = self.rows[shard]
        data = self._data[int(row["start"]) : int(row["start"]) + int(row["length"])]
        if not self._checked[shard]:
            if zlib.crc32(data) != row["crc"]:
                raise ValueError("it has changed on the disk")
            self._checked[shard] = True
        return data

    def shard(self, shard: int) -> TarIndex:
        """Where a shard's samples lie. Raises DataError where the record is lost, and the shard
        another one now."""
        if shard not in self._open:
            try:
                found = unpack(self.packed(shard))
            except ValueError:
                found = self._walked(shard)
            self._open[shard] = found
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return self._open[shard]

    def _walked(self, shard: int) -> TarIndex:
        try:
            file = self.file(shard)
            found = index_tar(Path(file) if isinstance(file, str) else file)
        except (DataError, OSError) as error:
            found = TarIndex.empty(str(error))
        if len(found) != int(self._ends[shard]) - self._first(shard):
            raise DataError(f"{self.name(shard)} has changed since it was indexed")
        return found

    def record(self, shard: int) -> Record:
        """To be written into another index; walked anew where it is lost."""
        row = self.rows[shard]
        try:
            packed = self.packed(shard)
        except ValueError:
            return record(self.path(shard), self._store)
        samples = int(self._ends[shard]) - self._first(shard)
        return Record(int(row["state"]), samples, packed, int(row["crc"]))
