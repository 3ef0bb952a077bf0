"""What is on the disk, and errors of the system that say which file they are of."""

import contextlib
import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def sync(path: Path) -> None:
    """Return when the contents of the file, or the names in the folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows keeps names by itself and opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make(folder: Path) -> list[Path]:
    """Make a folder and those above it, and flush what names them; those that weren't there."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in made:
        with contextlib.suppress(PermissionError):  # a folder to write into, and not to read
            sync(each.parent)
    return made


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
