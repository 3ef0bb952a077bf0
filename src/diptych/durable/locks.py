"""Locks of files and folders. The system lets go of them when the process ends, however it ends."""

import contextlib
import errno
import functools
import os
import socket
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from diptych.durable.disk import make

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)
"""What systems say that lock nothing there; the last is NFS's of a folder."""
_PAUSE = 0.005
"""Seconds between two looks at a lock that somebody else holds for a moment."""
_held = set[int]()
"""Descriptors of the locks that this process holds."""


@contextmanager
def lock(path: Path) -> Generator[bool, None, None]:
    """Be the only process that holds the file `path`, which is there meanwhile; False: the file
    system has no locks, and nobody is kept out.

    The system lets go of it when the process ends, however that ends. Raises BlockingIOError, which
    says who holds it, and OSError where the file can't be written. Folders that are made for it go
    with it if they are empty then.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych.durable import lock
    >>> with tempfile.TemporaryDirectory() as folder, lock(Path(folder, "lock")) as held:
    ...     held
    True
    """
    made = make(path.parent)
    try:
        descriptor, held = _hold(path)
    except FileNotFoundError:  # who made the folder before has just taken it away
        made = make(path.parent)
        descriptor, held = _hold(path)

    def release() -> None:
        with contextlib.suppress(OSError):  # before another can hold it; Windows refuses
            path.unlink()
            for each in made:
                each.rmdir()

    with holding(descriptor, release):
        yield held


@contextmanager
def waiting_lock(path: Path) -> Generator[IO[str], None, None]:
    """Wait until no other process is within, for what takes no longer than a moment; where the file
    system has no locks, nobody is kept out. The file stays, open for what they tell each other.
    Raises OSError where it can't be written."""
    with open(path, "a+", encoding="utf-8") as file:
        descriptor = file.fileno()
        while True:
            try:
                take(descriptor)
                break
            except BlockingIOError:
                time.sleep(_PAUSE)
        _held.add(descriptor)
        _let_go_in_children()
        try:
            yield file
        finally:
            _held.discard(descriptor)


@contextmanager
def holding(descriptor: int, release: Callable[[], object]) -> Generator[None, None, None]:
    """Hold what is locked, and at the end call `release` and close it; forks of the process do
    neither."""
    _held.add(descriptor)
    _let_go_in_children()
    try:
        yield
    finally:
        if descriptor in _held:
            release()
            _held.remove(descriptor)
            os.close(descriptor)


def lock_folder(folder: Path) -> tuple[int, bool]:
    """The folder's descriptor, and whether it is locked or the file system has no locks. Raises
    BlockingIOError if another has locked it, FileNotFoundError if another has just removed it."""
    if os.name == "nt":  # Windows opens no folder
        return os.open(os.devnull, os.O_RDONLY), False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        held = take(descriptor)
        if not _is_named(descriptor, folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, held


def take(descriptor: int) -> bool:
    """Lock the file; False if the file system can't. Raises BlockingIOError if another has."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # beyond the text: others can't read it else
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except PermissionError as error:  # as Windows says it
        os.lseek(descriptor, 0, os.SEEK_SET)
        raise BlockingIOError(error.errno, "it is locked") from error
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _hold(path: Path) -> tuple[int, bool]:
    """The descriptor of the locked file, and whether it is locked or the file system has no
    locks."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            held = take(descriptor)
            # Whoever held it may have deleted it a moment ago: then others will hold another file.
            if _is_named(descriptor, path):
                os.truncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return descriptor, held
        except BlockingIOError as error:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            raise BlockingIOError(error.errno, holder or "another process", str(path)) from None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that `path` names."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@functools.cache
def _let_go_in_children() -> None:
    """From now on, forks of the process close the locks that it holds: a worker that outlives it
    must not hold them for it."""

    def let_go() -> None:
        for descriptor in _held:
            os.close(descriptor)
        _held.clear()

    if sys.platform != "win32":
        os.register_at_fork(after_in_child=let_go)
