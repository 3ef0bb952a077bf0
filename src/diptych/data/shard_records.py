"""A record for each of many shards in one file, read through a memory map.

Only pages that are looked at are in memory, once for all processes of a machine. All numbers are
little-endian; parts begin at multiples of 8:

    HEADER     64 bytes: mark, number of shards, where the table begins, bytes of the paths, crc
    records    one a shard, end to end
    table      one ROW a shard
    paths      UTF-8, end to end

The header's crc is of the table and the paths, a row's of its record, which is checked when it is
first read: what the disk has changed is seen, and made anew.
"""

import mmap
import zlib
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np

from diptych.data.files import Elsewhere, Store

T = TypeVar("T", bound="PerShard")

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


class Record(NamedTuple):
    """What is known of a shard, to be written."""

    state: int
    samples: int
    packed: bytes | memoryview
    crc: int


def as_text(data: bytes | memoryview) -> str:
    """What `as_bytes` wrote."""
    return bytes(data).decode("utf-8", "surrogateescape")


def as_bytes(text: str) -> bytes:
    """A path or a name, which need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def write_records(
    file: BinaryIO | BytesIO,
    paths: Sequence[str],
    keys: np.ndarray,
    versions: np.ndarray,
    records: Iterable[Record],
) -> None:
    """Write a record for each of `paths`, one after the other; `versions` [shards, 2] are their
    sizes and times."""
    rows = np.zeros(len(paths), ROW)
    names, position, samples = bytearray(), _HEAD, 0
    file.write(bytes(_HEAD))
    for number, (path, each) in enumerate(zip(paths, records, strict=True)):
        file.write(each.packed)
        names += as_bytes(path)
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


class PerShard:
    """A record for each of many shards, whose samples are numbered one after the other; the shards
    lie in the file system, or in `store`. Raises ValueError for data that `write_records` didn't
    write so.

    `rows`: the table; `body`: all records, end to end; `source`: the file that is mapped, None
    where it is in memory alone."""

    def __init__(
        self, data: bytes | memoryview, source: Path | None = None, store: Store | None = None
    ):
        self._data = memoryview(data)
        self.source, self.store = source, store
        if len(self._data) < _HEAD:
            raise ValueError("it is no index of shards")
        mark, shards, start, names, crc = np.frombuffer(self._data, _HEADER, 1)[0].tolist()
        middle, end = start + shards * ROW.itemsize, start + shards * ROW.itemsize + names
        if mark != _MARK or min(shards, start, names) < 0 or end != len(self._data):
            raise ValueError("it is no index of shards")
        if zlib.crc32(self._data[start:end]) != crc:
            raise ValueError("it has changed on the disk")
        self.rows = np.frombuffer(self._data, ROW, shards, start)
        self.body = self._data[_HEAD:start]
        self._names = self._data[middle:end]
        self._ends = np.ascontiguousarray(self.rows["end"])  # as a search wants it
        self._checked = np.zeros(shards, bool)

    @classmethod
    def open(cls: type[T], path: Path, store: Store | None = None) -> T:
        """Map a file. Raises OSError, and ValueError as the class."""
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            return cls(data, path, store)

    def __reduce__(self):
        if self.source is not None:
            return (type(self).open, (self.source, self.store))
        return (type(self), (bytes(self._data), None, self.store))

    def __len__(self) -> int:
        """Samples of all shards."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def path(self, shard: int) -> str:
        """Where a shard lies."""
        start = self.rows["path"][shard - 1] if shard else 0
        return as_text(self._names[start : self.rows["path"][shard]])

    def file(self, shard: int) -> str | Elsewhere:
        """What a shard is read from."""
        row, path = self.rows[shard], self.path(shard)
        state = int(row["bytes"]), int(row["modified"])
        return self.store.file(path, state) if self.store else path

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

    def samples(self, shard: int) -> int:
        """How many samples a shard has."""
        return int(self._ends[shard]) - self._first(shard)

    def packed(self, shard: int) -> memoryview:
        """The record of a shard. Raises ValueError where it isn't what was written."""
        row = self.rows[shard]
        data = self._data[int(row["start"]) : int(row["start"]) + int(row["length"])]
        if not self._checked[shard]:
            if zlib.crc32(data) != row["crc"]:
                raise ValueError("it has changed on the disk")
            self._checked[shard] = True
        return data

    def record(self, shard: int) -> Record:
        """To be written into another file. Raises ValueError as `packed`."""
        row, packed = self.rows[shard], self.packed(shard)
        return Record(int(row["state"]), self.samples(shard), packed, int(row["crc"]))
