"""Where everything lies in a tar: one walk over its 512-byte headers, then random access.

Formats: v7, ustar with its name prefix, GNU long names, pax (POSIX.1-2001; `man 5 tar`).
"""

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8, UInt32

from diptych.data.files import Elsewhere, ReadAhead
from diptych.errors import DataError

_BLOCK = 512
_REGULAR = b"0\0007"
_WITHOUT_DATA = b"123456"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
_META = re.compile(r"__[^/]*__($|/)")
_OCTAL = re.compile(rb"[0-7]*")
_LONGEST_HEADER = 1 << 20
"""Bytes of pax records."""
_LONGEST_NAME = 1 << 12
"""Bytes of a name: those of the longest path in Linux."""
_MOST = 1 << 22
"""Members of a tar; each takes some hundred bytes of memory."""

_Read = Callable[[int, int], bytes]
"""`size` bytes from `offset`, fewer at the file's end."""


class _Member(NamedTuple):
    key: str
    ending: str
    offset: int
    size: int


@dataclass(frozen=True)
class TarIndex:
    """The samples of one tar: sample i owns the members ends[i-1]:ends[i]. Arrays, so that millions
    stay small."""

    names: UInt8[np.ndarray, " bytes"]
    """The samples' keys in UTF-8, end to end."""
    name_ends: Int64[np.ndarray, " samples"]
    ends: Int64[np.ndarray, " samples"]
    endings: tuple[str, ...]
    """The file endings that occur; `ending` points into it."""
    ending: UInt32[np.ndarray, " members"]
    offset: Int64[np.ndarray, " members"]
    size: Int64[np.ndarray, " members"]
    error: str
    """What is wrong with the tar after its last sample; empty: nothing."""

    @classmethod
    def empty(cls, error: str) -> "TarIndex":
        """Of what can't be read."""
        none = np.zeros(0, np.int64)
        return cls(
            names=none.astype(np.uint8),
            name_ends=none,
            ends=none,
            endings=(),
            ending=none.astype(np.uint32),
            offset=none,
            size=none,
            error=error,
        )

    def __len__(self) -> int:
        return len(self.ends)

    def key(self, index: int) -> str:
        """The sample's name: its members' path up to the first dot of the file name."""
        start = self.name_ends[index - 1] if index else 0
        return (
            self.names[start : self.name_ends[index]].tobytes().decode("utf-8", "surrogateescape")
        )

    def members(self, index: int) -> dict[str, tuple[int, int]]:
        """File ending -> (offset, size) of a sample."""
        rows = slice(self.ends[index - 1] if index else 0, self.ends[index])
        places = zip(self.offset[rows].tolist(), self.size[rows].tolist(), strict=True)
        return {
            self.endings[ending]: place
            for ending, place in zip(self.ending[rows].tolist(), places, strict=True)
        }


def _number(field: bytes) -> int:
    """A header's number: octal digits, or base 256 when the first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    digits = field.strip(b" \0")
    if not _OCTAL.fullmatch(digits):  # int() would take a sign, and a walk would go back
        raise ValueError(f"{digits!r} is no octal number")
    return int(digits or b"0", 8)


def _decimal(digits: str) -> int:
    if not digits.isdecimal():
        raise ValueError(f"{digits!r} is no size")
    return int(digits)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _sound(header: bytes) -> bool:
    """Whether the header's checksum holds (its own field counts as eight spaces)."""
    try:
        return sum(header) - sum(header[148:156]) + 256 == _number(header[148:156])
    except ValueError:
        return False


def _pax(data: bytes) -> dict[str, str]:
    """What the records `LENGTH KEY=VALUE\\n` of a pax header say of name and size."""
    records, start = dict[str, str](), 0
    while start < len(data):
        space = data.find(b" ", start)
        digits = data[start:space]
        if space < 0 or not digits.isdigit() or int(digits) <= len(digits):
            raise ValueError("a pax record without its length")
        end = start + int(digits)
        key, _, value = data[space + 1 : end].rstrip(b"\n").partition(b"=")
        if key.startswith(b"GNU.sparse."):
            raise ValueError("it is a sparse file, which can't be read")
        if key in (b"path", b"size"):
            records[key.decode()] = _text(value)
        start = end
    return records


def _described(read: _Read, size: int, position: int) -> bytes:
    """The data of a member that describes the next one."""
    if size > _LONGEST_HEADER:
        raise ValueError(f"{size} bytes about one member, more than {_LONGEST_HEADER}")
    return read(position, size)


def _walk(read: _Read, length: int, members: list[_Member]) -> tuple[str, str]:
    """Append a tar's regular members; return what is wrong at its end, and the member that is
    cut."""
    position, override = 0, dict[str, str]()
    while position + _BLOCK <= length:
        header = read(position, _BLOCK)
        if len(header) < _BLOCK:  # the file is being cut, or its server gives less than it says
            return f"cut short at byte {position + len(header)}", ""
        if not any(header):  # a block of zeros is the end mark
            return "", ""
        if not _sound(header):
            return f"corrupt at byte {position}", ""
        kind, size = header[156:157], _number(header[124:136])
        name = override.get("path") or _text(header[:100])
        if "path" not in override and header[257:263] == b"ustar\0" and header[345]:
            name = f"{_text(header[345:500])}/{name}"
        if len(name) > _LONGEST_NAME or len(members) >= _MOST:
            raise ValueError(f"a name of {len(name):,} letters, or more than {_MOST:,} members")
        if "size" in override:  # pax: for files above the 8 GiB of eleven digits
            size = _decimal(override["size"])
        position += _BLOCK
        if kind in _WITHOUT_DATA:
            override = {}
            continue
        if position + size > length:
            return f"cut short at byte {length}, inside {name}", name
        # A long name ("L") or pax records ("x") are members of their own, and describe the next
        # one.
        if kind == b"L":
            override["path"] = _text(_described(read, size, position))
        elif kind == b"x":
            override |= _pax(_described(read, size, position))
        elif kind in _REGULAR:
            if split := split_name(name):
                key, ending = split
                members.append(_Member(key, sys.intern(ending), position, size))
            override = {}
        elif kind == b"S":
            return f"holds the sparse file {name}, which can't be read, at byte {position}", name
        position += -(-size // _BLOCK) * _BLOCK  # data is filled up to whole blocks
    return f"cut short at byte {length}: it has no end mark", ""


def split_name(name: str) -> tuple[str, str] | None:
    """A member's sample key and lower-case ending, as webdataset splits them; None: it belongs to
    no sample.

    >>> from diptych.data.tar import split_name
    >>> split_name("a.b/cat.seg.PNG"), split_name("a/.hidden")
    (('a.b/cat', 'seg.png'), None)
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, ending = base.partition(".")
    if not stem or not dot or _META.match(name):
        return None
    return f"{folder}{slash}{stem}", ending.lower()


def _group(members: list[_Member], error: str, cut: str) -> TarIndex:
    """Members with one key make one sample, also when others lie between; a repeated ending begins
    the next sample."""
    keys: list[str] = []
    samples: list[dict[str, _Member]] = []
    latest: dict[str, int] = {}
    for member in members:
        key, ending = member.key, member.ending
        at = latest.get(key)
        if at is None or ending in samples[at]:
            at = latest[key] = len(samples)
            samples.append({})
            keys.append(key)
        samples[at][ending] = member
    if (split := split_name(cut)) and split[0] in latest:
        del samples[latest[split[0]]], keys[latest[split[0]]]
    names = [key.encode("utf-8", "surrogateescape") for key in keys]
    numbers: dict[str, int] = {}
    endings = itertools.chain.from_iterable(samples)
    places = list(itertools.chain.from_iterable(sample.values() for sample in samples))
    ending = np.array([numbers.setdefault(each, len(numbers)) for each in endings], np.uint32)
    return TarIndex(
        names=np.frombuffer(b"".join(names), np.uint8),
        name_ends=np.cumsum([len(name) for name in names], dtype=np.int64),
        ends=np.cumsum([len(sample) for sample in samples], dtype=np.int64),
        endings=tuple(numbers),
        ending=ending,
        offset=np.array([member.offset for member in places], np.int64),
        size=np.array([member.size for member in places], np.int64),
        error=error,
    )


def is_tar(path: str | os.PathLike[str]) -> bool:
    """Whether it has the name of a tar, in any letter case.

    >>> from diptych.data.tar import is_tar
    >>> is_tar("shards/000000.TAR"), is_tar("shards/000000.tar.gz")
    (True, False)
    """
    return os.fspath(path).lower().endswith(".tar")


def index_tar(path: Path | Elsewhere) -> TarIndex:
    """Walk a tar's headers. Raises DataError when it is compressed or no tar at all; what is wrong
    further on is in `TarIndex.error`.

    >>> import tempfile; from pathlib import Path
    >>> from diptych.batch import Sample
    >>> from diptych.data import write_shards
    >>> from diptych.data.tar import index_tar
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cat = Sample(key="", image=b"\\xff\\xd8...", captions=("a cat",))
    ...     [shard] = write_shards(folder, [cat])
    ...     index_tar(shard).members(0)
    {'jpg': (512, 5), 'txt': (1536, 5)}
    """
    with opened(path) as (read, length):
        start = read(0, _BLOCK)
        if start[:2] in _COMPRESSED:
            raise DataError(
                f"{path} is compressed ({_COMPRESSED[start[:2]]}); unpack it to a plain .tar first"
            )
        if len(start) == _BLOCK and any(start) and not _sound(start):
            raise DataError(f"{path} is not a tar archive")
        members: list[_Member] = []
        try:
            wrong, cut = _walk(read, length, members)
        except ValueError as error:
            wrong, cut = f"corrupt in a header after its member {len(members)}: {error}", ""
        return _group(members, wrong, cut)


@contextlib.contextmanager
def opened(path: Path | Elsewhere) -> Generator[tuple[_Read, int], None, None]:
    """A reader of pieces (offset, size), and how long the file is. Raises DataError, OSError."""
    if isinstance(path, Elsewhere):
        yield ReadAhead(path).read, path.size
        return
    if not path.is_file():  # opening a pipe would wait for its writer
        raise DataError(f"{path} is not a file" if path.exists() else f"{path} doesn't exist")
    file = os.open(path, os.O_RDONLY)
    try:
        yield lambda offset, size: os.pread(file, size, offset), os.fstat(file).st_size
    finally:
        os.close(file)
