"""A folder of bounded size that the processes of a machine share.

What is there can always be had again: so the least recently used makes room, a file may vanish
while others read, and a disk that is full costs time and nothing else.
"""

import contextlib
import errno
import os
import tempfile
import time
import warnings
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import IO

from diptych.durable import waiting_lock
from diptych.errors import DataError, DataWarning

FULL = (errno.ENOSPC, errno.EDQUOT)
"""A disk, or a user's share of it, is full."""
_SLACK = 0.1
"""Share of the room that is freed at once, so that not each file looks through all others."""
_RECENT = 30.0
"""Seconds in which a file that is used again needs no mark of it."""
_LOCKS = 64
_COUNTER = ".taken"


class NoRoom(DataError):
    """More than the folder may hold."""


class BoundedFolder:
    """Files that take at most `most` bytes together (0: as many as there is place for).

    What they take is counted in a file beside them, and anew whenever room is made.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych.data.bounded_folder import BoundedFolder
    >>> folder = BoundedFolder(Path(tempfile.mkdtemp()), most=10.0)
    >>> folder.put("a", b"12345"), folder.put("b", b"123456")
    (None, None)
    >>> folder.read("a", 0, 5), folder.read("b", 0, 3)
    (None, b'123')
    """

    def __init__(self, folder: Path, most: float, advice: str = "set another --data.cache"):
        """`advice`: what to do where nothing can be kept in the folder."""
        self.folder, self.most, self._advice = folder, most, advice
        self._gave_up = False

    def reserve(self, size: int) -> None:
        """Have room for so many bytes that were just written, at the cost of the files used least
        recently. Raises NoRoom, OSError."""
        # After the write: who counts anew in between must not miss them.
        if self.most:
            with self._counter() as counter:
                self._make_room(counter, size)

    def _make_room(self, counter: IO[str], size: int) -> None:
        counted = _number(counter)
        taken = self._evict(float("inf")) if counted is None else counted + size
        if taken > self.most >= size:
            spare = max(0.0, self.most * _SLACK - size)
            taken = self._evict(self.most - spare)
        fits = taken <= self.most
        _write(counter, taken if fits else taken - size)
        if not fits:
            raise NoRoom(f"the files in {self.folder} may take {self.most / 1e9:g} GB in all")

    @contextlib.contextmanager
    def unchanged(self) -> Generator[None, None, None]:
        """Nobody counts meanwhile: a file that gets its name would be missed, as it has neither
        the old nor the new one. Nothing is to be reserved within."""
        with self._counter():
            yield

    def give_way(self) -> bool:
        """Where the disk is full: give half back; False: there was nothing to give."""
        with self._counter() as counter:
            before = self._evict(float("inf"))
            after = self._evict(before / 2)
            _write(counter, after)
        return after < before

    def read(self, name: str, offset: int, size: int) -> bytes | None:
        """A piece of a file, which is used by that; None where it isn't there."""
        path = self.folder / name
        # Not kept open: the system frees a file's place only when nobody has it open.
        with contextlib.suppress(OSError), open(path, "rb", buffering=0) as file:
            if time.time() - os.fstat(file.fileno()).st_mtime > _RECENT:
                os.utime(path)
            file.seek(offset)
            return file.read(size)
        return None

    def put(self, name: str, data: bytes) -> None:
        """Keep a file, if there is room."""
        if self._gave_up:
            return
        try:
            self._put(name, data)
        except NoRoom:
            pass
        except OSError as error:
            self._make_do(error)

    def _put(self, name: str, data: bytes) -> None:
        descriptor, path = tempfile.mkstemp(prefix=".", suffix=".partial", dir=self.folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)  # or it may be empty after a power cut, and have its name
            with self._counter() as counter:
                if self.most:
                    self._make_room(counter, len(data))
                os.replace(path, self.folder / name)
        except BaseException:
            os.unlink(path)
            raise

    def _make_do(self, error: OSError) -> None:
        with contextlib.suppress(OSError):
            if error.errno in FULL and self.give_way():
                return
        self._gave_up = True
        warnings.warn(
            f"nothing more can be kept in {self.folder} ({error.strerror}): what is needed again "
            f"is made again; {self._advice}",
            DataWarning,
            stacklevel=2,
        )

    @contextlib.contextmanager
    def locked(self, name: str) -> Generator[None, None, None]:
        """Keep other processes out that want the same, and by chance one that wants another."""
        with contextlib.ExitStack() as held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                number = zlib.crc32(name.encode()) % _LOCKS
                held.enter_context(waiting_lock(self.folder / f".lock-{number}"))
            except OSError as error:  # a folder that can't be written
                self._make_do(error)
            yield

    @contextlib.contextmanager
    def _counter(self) -> Generator[IO[str], None, None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with waiting_lock(self.folder / _COUNTER) as file:
            yield file

    def _evict(self, most: float) -> int:
        """Delete what was used longest ago, until no more than `most` bytes are left; how many
        are."""
        found, taken = list[tuple[float, int, str]](), 0
        for parent, _, names in os.walk(self.folder):
            hidden = os.path.basename(parent).startswith(".")
            for name in filter(_COUNTER.__ne__, names):
                path = os.path.join(parent, name)
                with contextlib.suppress(OSError):
                    state = os.stat(path)
                    taken += state.st_size
                    # Hidden is what is being written, and what is known of the others.
                    if not (hidden or name.startswith(".") or name.endswith(".lock")):
                        found.append((state.st_mtime, state.st_size, path))
        for _, size, path in sorted(found):
            if taken <= most:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                taken -= size
        return taken


def _number(file: IO[str]) -> int | None:
    """What was written last; None: nothing was, or the disk has made something else of it."""
    file.seek(0)
    try:
        text = file.read()
        return int(text) if text.isdecimal() else None
    except ValueError:  # no UTF-8, or thousands of digits
        return None


def _write(file: IO[str], number: int) -> None:
    file.seek(0)
    file.truncate()
    file.write(str(number))
    file.flush()
