"""Files and folders that take their place at once; what they replace, and what a kill left."""

import contextlib
import errno
import functools
import itertools
import os
import shutil
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from diptych.durable.disk import make, naming, sync
from diptych.durable.locks import holding, lock_folder

_UNFINISHED = ".partial"
_REPLACED = "replaced"
"""What stands at the target, until the new one has taken its place."""
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


def _refuse_special(target: Path) -> None:
    """Raises OSError for a pipe, a device or a socket: it would be gone, and a file in its place
    (for root even /dev/null)."""
    with contextlib.suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(
                errno.EEXIST, "it is no regular file, and none takes its place", str(target)
            )


@contextmanager
def _room(target: Path) -> Generator[Path, None, None]:
    """An empty folder beside `target`, which this process locks as long as it writes there."""
    make(target.parent)
    room, descriptor = _new_room(target)
    _forget_in_children()
    _rooms[room] = target

    def leave() -> None:
        shutil.rmtree(room, ignore_errors=True)
        del _rooms[room]

    with holding(descriptor, leave):
        yield room


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
            return room, lock_folder(room)[0]
    raise AssertionError("there is always another number")


def _clear_if_left(room: Path, target: Path) -> None:
    """Remove what a killed writer of `target` left, unless nobody knows that it was killed."""
    with contextlib.suppress(OSError):  # as of another user's
        descriptor, held = lock_folder(room)
        try:
            if held:
                _clear(room, target)
        finally:
            os.close(descriptor)


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


@functools.cache
def _forget_in_children() -> None:
    """What a fork of the process finds unfinished isn't its own."""
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=_rooms.clear)
