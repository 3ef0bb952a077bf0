"""Large arrays that are made once and then mapped into memory by all processes of a machine."""

import json
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.spool import make_once
from diptych.errors import DataError, DataWarning

_TAIL = 256
"""Bytes at a file's end that say what it is."""
_PIECE = 1 << 22
"""Bytes that are checked at a time."""

Write = Callable[[Path], dict[str, Any]]
"""Fills a file, and returns what is to be known of it."""


def mapped_once(target: Path, kind: np.dtype[Any], write: Write) -> tuple[np.ndarray, Any]:
    """The array in the file `target`, and what is known of it; written by one of the machine's
    processes while the others wait. A file that isn't as it was written is made again. Where it
    can't be written, each has one that is gone with it, which a DataWarning says. Raises DataError
    where there is no place for that either.

    >>> import tempfile
    >>> import numpy as np
    >>> from diptych.data.mapped_file import mapped_once
    >>> def write(place):
    ...     place.write_bytes(np.arange(3).tobytes())
    ...     return {"largest": 2}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     array, about = mapped_once(Path(folder, "a"), np.dtype(np.int64), write)
    ...     array.tolist(), about["largest"]
    ([0, 1, 2], 2)
    """

    def whole(place: Path) -> None:
        about = write(place)
        size = place.stat().st_size
        said = json.dumps(about | {"bytes": size, "crc32": _checksum(place, size)}).encode()
        with place.open("ab") as file:
            file.write(said.rjust(_TAIL))

    try:
        if (found := _opened(target, kind)) is None:
            target.unlink(missing_ok=True)  # it isn't as it was written
            found = _opened(make_once(target, whole), kind)
    except OSError as error:
        reason = error.strerror or str(error)
        said = f"{target} can't be kept: {reason} (this time each process makes its own)"
        warnings.warn(said, DataWarning, stacklevel=2)
        found = _alone(target.name, kind, whole)
    assert found is not None
    return found


def _alone(name: str, kind: np.dtype[Any], whole: Callable[[Path], None]) -> Any:
    """In a file without a name, which is gone with this process."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole(Path(folder, name))
            return _opened(Path(folder, name), kind)
    except OSError as error:
        raise DataError(
            f"there is no place for temporary files: {error}; name another folder in --data.cache"
        ) from error


def _opened(place: Path, kind: np.dtype[Any]) -> tuple[np.ndarray, Any] | None:
    """None: there is none, or it isn't as it was written."""
    try:
        size = place.stat().st_size - _TAIL
        with place.open("rb") as file:
            file.seek(max(0, size))
            about = json.loads(file.read())
        if about["bytes"] != size or about["crc32"] != _checksum(place, size):
            return None
        array = np.memmap(place, kind, "r", shape=(size // kind.itemsize,)) if size else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return np.zeros(0, kind) if array is None else array, about


def _checksum(place: Path, size: int) -> int:
    """Of the first bytes; read, not mapped, so that they count as no process's memory."""
    found = 0
    with place.open("rb") as file:
        for start in range(0, size, _PIECE):
            found = zlib.crc32(file.read(min(_PIECE, size - start)), found)
    return found
