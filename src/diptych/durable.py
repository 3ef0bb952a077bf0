"""Files and folders that appear whole or not at all, and that last through a power cut.

Everything that promises so is written here, in the one order in which file systems keep it
(Pillai et al. 2014, "All File Systems Are Not Created Equal"): written under another name, flushed,
renamed, and then the folder that holds the name flushed. Only after that may what it replaces be
deleted. A kill leaves a hidden `.NAME.….partial` at most, which the next writer of `NAME` removes,
and `sweep`. Where two processes would write the same, one of them holds a `lock`.
"""

import contextlib
import errno
import functools
import itertools
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_UNFINISHED = ".partial"
_REPLACED = "replaced"
"""What stands at the target, until the new one has taken its place."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)
"""What systems say that lock nothing there; the last is NFS's of a folder."""
_PAUSE = 0.005
"""Seconds between two looks at a lock that somebody else holds for a moment."""
_held = set[int]()
"""Descriptors of the locks that this process holds."""
_AT_ONCE = 4
"""Writers of one file whose leftovers are looked for; more than two are rare."""
_rooms = dict[Path, Path]()
"""Where this process is writing -> what."""


def write_file(target: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file beside `target`, then give it its name; folders are made as needed.

    A reader sees the old file or the new one, never half of it. Raises what `write` raises, and
    OSError; then nothing is left behind, and what stood at `target` is untouched.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych.durable import write_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_file(Path(folder, "new", "a.txt"), lambda path: path.write_text("whole")).name
    'a.txt'
    """
    _refuse_special(target)
    with naming(target), _room(target) as room:
        write(room / target.name)
        _flush(room)
        (room / target.name).replace(target)
        sync(target.parent)
    return target


@contextmanager
def new_folder(
    target: Path, replaceable: Callable[[Path], bool] = lambda _: True
) -> Generator[Path, None, None]:
    """Yields an empty folder to write `target` in: what the body leaves there as `target.name`
    takes the place of `target` at the end.

    Raises OSError, also for what another process has put there meanwhile and that isn't
    `replaceable`. If the body fails, nothing is left behind and what stood at `target` is
    untouched.
    """
    with _room(target) as room:
        yield room
        _flush(room)
        if target.exists() and not replaceable(target):
            raise FileExistsError(errno.EEXIST, "another process has just made it", str(target))
        if target.is_dir():
            target.rename(room / _REPLACED)
        (room / target.name).replace(target)
        sync(target.parent)


def append(path: Path, lines: str) -> None:
    """Add whole lines to a file, which are on the disk then; what a kill cut off before them stays
    a line of its own."""
    with naming(path), open(path, "ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        cut = file.read() not in (b"", b"\n")
        file.write(("\n" if cut else "").encode() + lines.encode())
        file.flush()
        os.fsync(file.fileno())
    if not size:
        sync(path.parent)


@contextmanager
def naming(path: Path) -> Generator[None, None, None]:
    """An error of the system within, which names no file where a write or a flush fails, names
    `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def by_library(path: Path) -> Generator[None, None, None]:
    """Within, a library's own writer fills `path`; the RuntimeError in which it says that it
    couldn't (a full disk) is an OSError, as everywhere else."""
    try:
        yield
    except RuntimeError as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise OSError(errno.EIO, f"its writer broke off ({said})", str(path)) from error


def remove(folder: Path) -> None:
    """Delete a folder so that nobody sees a part of it, not after a kill either."""
    with _room(folder) as room:
        folder.rename(room / folder.name)


def sweep(folder: Path, name: str = "*") -> None:
    """Remove what killed writers of `folder / name` left. Only for who knows that nobody else is
    writing there."""
    for left in {
        *folder.glob(f".{name}.*{_UNFINISHED}"),
        *folder.glob(f".{name}{_UNFINISHED}"),
    }:
        if left.is_dir():
            _clear(left, folder / left.name[1:].rsplit(".", 2)[0])
        else:
            left.unlink(missing_ok=True)


def abandon() -> None:
    """Remove all that this process is writing, from any thread: it is about to be ended."""
    for room, target in list(_rooms.items()):
        _clear(room, target)


def unfinished(target: Path, number: int = 0) -> Path:
    """Where a process writes what will be `target`; each of several at once has its number."""
    return target.parent / f".{target.name}.{number}{_UNFINISHED}"


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
    made = _make(path.parent)
    try:
        descriptor, held = _hold(path)
    except FileNotFoundError:  # who made the folder before has just taken it away
        made = _make(path.parent)
        descriptor, held = _hold(path)
    _held.add(descriptor)
    _let_go_in_children()
    try:
        yield held
    finally:
        if descriptor in _held:  # not in a fork of the process
            with contextlib.suppress(OSError):  # before another can hold it; Windows refuses
                path.unlink()
            _held.remove(descriptor)
            os.close(descriptor)
            with contextlib.suppress(OSError):
                for each in made:
                    each.rmdir()


@contextmanager
def waiting_lock(path: Path) -> Generator[IO[str], None, None]:
    """Wait until no other process is within, for what takes no longer than a moment; where the file
    system has no locks, nobody is kept out. The file stays, open for what they tell each other.
    Raises OSError where it can't be written."""
    with open(path, "a+", encoding="utf-8") as file:
        descriptor = file.fileno()
        while True:
            try:
                _take(descriptor)
                break
            except BlockingIOError:
                time.sleep(_PAUSE)
        _held.add(descriptor)
        _let_go_in_children()
        try:
            yield file
        finally:
            _held.discard(descriptor)


def sync(path: Path) -> None:
    """Return when the contents of the file, or the names in the folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows keeps names by itself and opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_special(target: Path) -> None:
    """Raises OSError for a pipe, a device or a socket: it would be gone, and a file in its place
    (for root even /dev/null)."""
    with contextlib.suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(
                errno.EEXIST, "it is no regular file, and none takes its place", str(target)
            )


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it, and flush what names them; those that weren't there."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in made:
        with contextlib.suppress(PermissionError):  # a folder to write into, and not to read
            sync(each.parent)
    return made


@contextmanager
def _room(target: Path) -> Generator[Path, None, None]:
    """An empty folder beside `target`, which this process locks as long as it writes there."""
    _make(target.parent)
    room, descriptor = _new_room(target)
    _held.add(descriptor)
    _let_go_in_children()
    _rooms[room] = target
    try:
        yield room
    finally:
        if descriptor in _held:  # not in a fork of the process
            shutil.rmtree(room, ignore_errors=True)
            del _rooms[room]
            _held.remove(descriptor)
            os.close(descriptor)


def _new_room(target: Path) -> tuple[Path, int]:
    """The folder and the descriptor of its lock. What killed writers of `target` left goes."""
    for number in range(_AT_ONCE):
        _clear_if_left(unfinished(target, number), target)
    for number in itertools.count():
        room = unfinished(target, number)
        try:
            room.mkdir(mode=0o700)
        except FileExistsError:
            continue
        # Who looks for leftovers may have taken it for one before it was locked.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            return room, _lock_room(room)[0]
    raise AssertionError("there is always another number")


def _clear_if_left(room: Path, target: Path) -> None:
    """Remove what a killed writer of `target` left, unless nobody knows that it was killed."""
    with contextlib.suppress(OSError):  # as of another user's
        descriptor, held = _lock_room(room)
        try:
            if held:
                _clear(room, target)
        finally:
            os.close(descriptor)


def _lock_room(room: Path) -> tuple[int, bool]:
    """The folder's descriptor, and whether it is locked or the file system has no locks. Raises
    BlockingIOError if another has locked it, FileNotFoundError if another has just removed it."""
    if os.name == "nt":  # Windows opens no folder
        return os.open(os.devnull, os.O_RDONLY), False
    descriptor = os.open(room, os.O_RDONLY)
    try:
        held = _take(descriptor)
        if not _is_named(descriptor, room):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(room))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, held


def _clear(room: Path, target: Path) -> None:
    """Remove what a writer of `target` leaves."""
    if (room / _REPLACED).exists() and not target.exists():
        (room / _REPLACED).rename(target)  # it was ended between two renames
    shutil.rmtree(room, ignore_errors=True)


def _flush(room: Path) -> None:
    """Sync all that lies in `room`, files before the folders that name them, and open them to whom
    the umask says: some writers (safetensors, tempfile) leave 0600."""
    probe = room / ".mode"
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for parent, _, names in os.walk(room, topdown=False):
        for name in names:
            path = Path(parent, name)
            path.chmod(mode)
            sync(path)
        sync(Path(parent))


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that `path` names."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _hold(path: Path) -> tuple[int, bool]:
    """The descriptor of the locked file, and whether it is locked or the file system has no
    locks."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            held = _take(descriptor)
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


def _take(descriptor: int) -> bool:
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


@functools.cache
def _let_go_in_children() -> None:
    """From now on, forks of the process close the locks that it holds: a worker that outlives it
    must not hold them for it."""

    def let_go() -> None:
        for descriptor in _held:
            os.close(descriptor)
        _held.clear()
        _rooms.clear()

    if sys.platform != "win32":
        os.register_at_fork(after_in_child=let_go)
