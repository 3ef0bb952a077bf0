"""Where the lines of a file lie, found in a few passes over its bytes and in little memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from diptych.data.files import LONGEST_TEXT
from diptych.errors import DataError

MOST = 1 << 25
"""Lines of a file; each takes some dozens of bytes of memory."""
_BLOCK = 1 << 22
_SPACES = np.frombuffer(b" \t\r\n\v\f", np.uint8)

Bytes = UInt8[np.ndarray, " bytes"]
Places = Int64[np.ndarray, " lines"]


def mapped(path: Path) -> Bytes:
    """A file's bytes. Raises DataError for an empty file."""
    if not path.stat().st_size:
        raise DataError(f"{path} is empty")
    return np.memmap(path, np.uint8, "r")


def find_lines(data: Bytes, start: int, path: Path) -> tuple[Places, Places]:
    """Where lines begin, and where they end without the line feed. Raises DataError for more than
    MOST.

    >>> import numpy as np
    >>> from pathlib import Path
    >>> from diptych.data.lines import find_lines
    >>> find_lines(np.frombuffer(b"ab\\ncde", np.uint8), 0, Path("table.csv"))
    (array([0, 3]), array([2, 6]))
    """
    if sum(np.count_nonzero(block == 10) for _, block in _blocks(data)) > MOST:
        raise DataError(f"{path} has more than {MOST:,} lines; split it into several files")
    found = [np.flatnonzero(block == 10) + at for at, block in _blocks(data)]
    feeds = np.concatenate([np.zeros(0, np.int64), *found])
    ends = feeds if len(feeds) and feeds[-1] == len(data) - 1 else np.append(feeds, len(data))
    return np.concatenate([[start], ends[:-1] + 1]).astype(np.int64), ends.astype(np.int64)


def count_letter(data: Bytes, letter: str, starts: Places) -> Int64[np.ndarray, " lines"]:
    """How often an ASCII letter stands in each line."""
    counts = np.zeros(len(starts), np.int64)
    for at, block in _blocks(data):
        places = np.flatnonzero(block == ord(letter)) + at
        lines = np.searchsorted(starts, places[places >= starts[0]], side="right") - 1
        if len(lines):
            first, last = int(lines[0]), int(lines[-1])
            counts[first : last + 1] += np.bincount(lines - first, minlength=last + 1 - first)
    return counts


def filled(data: Bytes, starts: Places, ends: Places) -> Bool[np.ndarray, " lines"]:
    """Which lines hold more than white space; those too long to look at do."""
    found = starts < ends
    begin = data[np.minimum(starts, len(data) - 1)]
    for number in np.flatnonzero(found & np.isin(begin, _SPACES)).tolist():
        line = data[starts[number] : min(int(ends[number]), int(starts[number]) + LONGEST_TEXT)]
        found[number] = not line.tobytes().isspace()
    return found


def _blocks(data: Bytes) -> Iterator[tuple[int, Bytes]]:
    for at in range(0, len(data), _BLOCK):
        yield at, data[at : at + _BLOCK]
