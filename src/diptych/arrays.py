"""NumPy's files within limits: what a stranger wrote takes no more memory than its reader expects,
and is wrong in one sentence."""

import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diptych.errors import first_line

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DAMAGE = (
    *(ValueError, TypeError, KeyError, EOFError, SyntaxError, tokenize.TokenError, IndexError),
    *(MemoryError, OverflowError, RecursionError, AttributeError, struct.error, RuntimeError),
    *(NotImplementedError, zipfile.BadZipFile, zlib.error),
)
"""What numpy raises for a header, which it parses as Python, and zipfile for what it can't
unpack."""


class NpyHeader(NamedTuple):
    """What a `.npy` file says of its array."""

    shape: tuple[int, ...]
    columns: bool
    """Whether the first dimension is the one that lies together (Fortran's order)."""
    dtype: np.dtype
    start: int
    """Bytes of the header; behind it the array lies."""

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def npy_header(file: Any) -> NpyHeader:
    """The header of an array of booleans, numbers, text or bytes in an open file, which is read up
    to the array. Raises ValueError for anything else, in one line."""
    with _in_one_line():
        shape, columns, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        if dtype.hasobject:
            raise ValueError("it holds pickled Python objects, which are never unpickled")
        return NpyHeader(shape, columns, dtype, file.tell())


def read_npy(data: bytes) -> np.ndarray:
    """The array of booleans, numbers or text that a `.npy` file holds. Raises ValueError for
    anything else, in one line.

    >>> import io
    >>> import numpy as np
    >>> from diptych.arrays import read_npy
    >>> file = io.BytesIO()
    >>> np.save(file, np.arange(3))
    >>> read_npy(file.getvalue()).tolist()
    [0, 1, 2]
    """
    with _in_one_line():
        stream = io.BytesIO(data)
        # numpy makes room for what the header says before it reads; the rest is checked there.
        header = npy_header(stream)
        if header.dtype.kind not in "biufU" or header.size > len(data):
            raise ValueError(f"it holds {header.shape} of {header.dtype}")
        stream.seek(0)
        return np.load(stream, allow_pickle=False)


def map_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file, mapped into memory. Raises ValueError for anything else, in one
    line: Python objects, which would have to be unpickled, and a file that is cut among them;
    OSError where it can't be read.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from diptych.arrays import map_npy
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.arange(3))
    ...     map_npy(Path(folder, "a.npy")).tolist()
    [0, 1, 2]
    """
    with _in_one_line(), path.open("rb") as file:
        header = npy_header(file)
        if header.start + header.size != path.stat().st_size:
            raise ValueError(f"it doesn't hold the {header.size:,} bytes that it says")
        shape, dtype = header.shape, header.dtype
        if not header.size:
            return np.zeros(shape, dtype)
        order = "F" if header.columns else "C"
        return np.memmap(path, dtype, "r", offset=header.start, shape=shape, order=order)


def read_npz(path: str | os.PathLike[str], most: int) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file, by name. Raises ValueError for anything else, or where they have
    more than `most` bytes; OSError where the file can't be read.

    >>> import tempfile
    >>> import numpy as np
    >>> from diptych.arrays import read_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", ranks=np.arange(3))
    ...     read_npz(f"{folder}/a.npz", most=1000)["ranks"].tolist()
    [0, 1, 2]
    """
    with _in_one_line(), zipfile.ZipFile(path) as opened:
        entries = opened.infolist()
        if sum(entry.file_size for entry in entries) > most:
            raise ValueError(f"its arrays have more than {most:,} bytes")
        return {
            entry.filename.removesuffix(".npy"): read_npy(opened.read(entry)) for entry in entries
        }


@contextmanager
def _in_one_line() -> Generator[None, None, None]:
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(first_line(error)) from error
