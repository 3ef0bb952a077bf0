"""Reading pieces of files, and telling whether a file has changed."""

import hashlib
import os
from collections import OrderedDict
from pathlib import Path

from diptych.errors import DataError

_OPEN_FILES = 128
LONGEST_TEXT = 1 << 22
"""Bytes of one sample's captions or metadata, or of a row of a table."""


class OpenFiles:
    """Descriptors of the files read last. `pread` keeps no position, so forked workers may share
    them."""

    def __init__(self):
        self._files: OrderedDict[Path | str, int] = OrderedDict()

    def read(self, path: Path | str, offset: int, size: int, most: int) -> bytes:
        """`size` bytes from `offset`. Raises DataError when these are more than `most` or the file
        is shorter, OSError when it's gone."""
        if size > most:
            raise DataError(f"it has {size:,} bytes at byte {offset}, more than {most:,}")
        if path not in self._files:
            if len(self._files) >= _OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
            self._files[path] = os.open(path, os.O_RDONLY)
        self._files.move_to_end(path)
        data = os.pread(self._files[path], size, offset)
        if len(data) != size:
            raise DataError(
                f"{path} ends before byte {offset + size}: it has changed since it was indexed"
            )
        return data

    def __reduce__(self):
        return (OpenFiles, ())

    def __del__(self):
        for file in self._files.values():
            os.close(file)


def file_version(path: Path, *more: str) -> str:
    """A name for the file as it is now: another one when its path, size or modification time
    changes."""
    state = path.stat()
    parts = (str(path.absolute()), str(state.st_size), str(state.st_mtime_ns), *more)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]
