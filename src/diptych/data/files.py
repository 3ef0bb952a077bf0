"""Reading pieces of files, and telling whether a file has changed."""

import contextlib
import functools
import hashlib
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from diptych.errors import DataError

_OPEN_FILES = 128
LONGEST_TEXT = 1 << 22
"""Bytes of one sample's captions or metadata, or of a row of a table."""
_TOGETHER = 1 << 25
"""Bytes that are read at once although not all of them were asked for."""
_GAP = 1 << 16
"""Bytes between two pieces that cost less than asking twice."""


class Unreachable(DataError):
    """A file that can't be had now; another time it may."""


class Elsewhere(ABC):
    """A file that isn't on this machine, or not always, for readers of pieces. Its text is its name
    for people."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Its bytes."""

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer at its end. Raises DataError, OSError."""

    def near(self, places: Iterable[tuple[int, int]]) -> Callable[[int, int], bytes]:
        """A `read` of these (offset, size), which are read here and at once where they lie
        together."""
        pieces = list(places)
        start = min(offset for offset, _ in pieces)
        end = max(offset + size for offset, size in pieces)
        wanted = sum(size for _, size in pieces)
        if end - start > min(wanted + _GAP * len(pieces), _TOGETHER):
            return self.read
        whole = self.read(start, end - start)
        return lambda offset, size: whole[offset - start : offset - start + size]


class Store(ABC):
    """A place of such files, which have paths there."""

    def __init__(self):
        self._failed = dict[str, str]()

    def state(self, path: str) -> tuple[int, int]:
        """A file's bytes, and a number that is another one when its content is. Raises Unreachable
        where it can't be had, and from then on at once."""
        if path in self._failed:
            raise Unreachable(self._failed[path])
        try:
            return self._state(path)
        except Unreachable as error:
            self._failed[path] = str(error)
            raise

    @abstractmethod
    def _state(self, path: str) -> tuple[int, int]:
        """As `state`, asked for."""

    @abstractmethod
    def check(self, path: str) -> None:
        """Before files are indexed, of which this is one. Raises DataError where it would be of no
        use for any of them."""

    @abstractmethod
    def file(self, path: str, state: tuple[int, int]) -> Elsewhere:
        """The file that has this state."""

    def opened(self, size: int) -> str:
        """All files together have so many bytes; what the user should know of that, or nothing."""
        return ""


def stamp_of(text: str) -> int:
    """A number from 0 to 2^63 that says whether texts are the same."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class ReadAhead:
    """Reads small pieces from front to back, such as the headers of a tar, with few requests: each
    asks for more than is wanted, the more the more of it was of use."""

    def __init__(self, file: Elsewhere):
        self._file, self._start, self._data, self._more = file, 0, b"", _GAP

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer at the file's end."""
        begin = offset - self._start
        if begin < 0 or begin + size > len(self._data):
            near = 0 <= begin <= len(self._data)
            self._more = min(2 * self._more, _TOGETHER // 8) if near else max(self._more // 2, _GAP)
            self._start, begin = offset, 0
            self._data = self._file.read(offset, max(size, self._more))
        return self._data[begin : begin + size]


class _Descriptor:
    """An open file, until nobody reads it any more."""

    def __init__(self, number: int):
        self.number = number

    def __del__(self):
        os.close(self.number)


class OpenFiles:
    """Descriptors of the files read last. `pread` keeps no position, so forked workers and threads
    may share them."""

    def __init__(self):
        self._files: OrderedDict[Path | str, _Descriptor] = OrderedDict()

    def read(self, path: Path | str, offset: int, size: int, most: int) -> bytes:
        """`size` bytes from `offset`. Raises DataError when these are more than `most` or the file
        is shorter, OSError when it's gone."""
        if size > most:
            raise DataError(f"it has {size:,} bytes at byte {offset}, more than {most:,}")
        file = self._opened(path)  # held while it is read
        return _whole(os.pread(file.number, size, offset), str(path), offset, size)

    def _opened(self, path: Path | str) -> _Descriptor:
        # Without a lock, which a process may be forked under. Each step is one for all threads, and
        # what another thread forgets meanwhile stays open for who holds it.
        if (file := self._files.get(path)) is None:
            file = self._files.setdefault(path, _Descriptor(os.open(path, os.O_RDONLY)))
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)
        with contextlib.suppress(KeyError):
            self._files.move_to_end(path)
        return file

    def near(
        self, file: str | Elsewhere, places: Iterable[tuple[int, int]]
    ) -> Callable[[int, int, int], bytes]:
        """A `read` of these (offset, size) of one file: of one elsewhere, in one piece if it
        can."""
        if isinstance(file, str):
            return functools.partial(self.read, file)
        read = file.near(places)

        def checked(offset: int, size: int, most: int) -> bytes:
            if size > most:
                raise DataError(f"it has {size:,} bytes at byte {offset}, more than {most:,}")
            return _whole(read(offset, size), str(file), offset, size)

        return checked

    def __reduce__(self):
        return (OpenFiles, ())


def _whole(data: bytes, name: str, offset: int, size: int) -> bytes:
    """The data. Raises DataError where it isn't as long as it was when the file was indexed."""
    if len(data) != size:
        raise DataError(
            f"{name} ends before byte {offset + size}: it has changed since it was indexed"
        )
    return data


def file_version(path: Path, *more: str) -> str:
    """A name for the file as it is now: another one when its path, size or modification time
    changes."""
    state = path.stat()
    parts = (str(path.absolute()), str(state.st_size), str(state.st_mtime_ns), *more)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]
