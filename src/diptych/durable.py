"""Files and folders that appear whole or not at all, and that last through a power cut.

Everything that promises so is written here, in the one order in which file systems keep it
(Pillai et al. 2014, "All File Systems Are Not Created Equal"): written under another name, flushed,
renamed, and then the folder that holds the name flushed. Only after that may what it replaces be
deleted. A kill leaves a hidden `.NAME.….partial` at most, which `sweep` removes.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

_UNFINISHED = ".partial"


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
    with naming(target), _room(target) as room:
        write(room / target.name)
        _flush(room)
        (room / target.name).replace(target)
        sync(target.parent)
    return target


@contextmanager
def new_folder(target: Path) -> Generator[Path, None, None]:
    """Yields an empty folder to write `target` in: what the body leaves there as `target.name`
    takes the place of `target` at the end.

    Raises OSError. If the body fails, nothing is left behind and what stood at `target` is
    untouched.
    """
    with _room(target) as room:
        yield room
        _flush(room)
        if target.is_dir():
            target.rename(room / "replaced")
        (room / target.name).replace(target)
        sync(target.parent)


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


def sweep(folder: Path, name: str = "*") -> None:
    """Remove what killed writers of `folder / name` left. Only for who knows that nobody else is
    writing there."""
    for unfinished in folder.glob(f".{name}.*{_UNFINISHED}"):
        shutil.rmtree(unfinished, ignore_errors=True)


def sync(path: Path) -> None:
    """Return when the contents of the file, or the names in the folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows keeps names by itself and opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _room(target: Path) -> Generator[Path, None, None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    room = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_UNFINISHED, dir=target.parent)
    try:
        yield Path(room)
    finally:
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
