"""How a text file is encoded, where it doesn't say, and its lines as UTF-8."""

import codecs
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from diptych.bounded import read_whole
from diptych.errors import DataError

_BLOCK = 1 << 23
_MOST_CONVERTED = 1 << 28
"""Bytes of a file that is rewritten in memory."""


def converted(path: Path) -> bytes | None:
    """The file as UTF-8 with Unix line ends, where its own bytes can't be read line by line."""
    with path.open("rb") as file:
        head = file.read(4096)
    encoding = _wide_encoding(head)
    if not encoding and not (b"\r" in head and b"\n" not in head):
        return None
    try:
        content = read_whole(path, _MOST_CONVERTED)
    except ValueError as error:
        raise DataError(
            f"{path} is to be written as UTF-8 with line feeds to be read: {error}"
        ) from None
    if not encoding:  # as old Macintosh programs end lines
        return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} begins like {encoding.upper()}, but isn't ({error.reason} at byte "
            f"{error.start}); write it as UTF-8"
        ) from None
    return (
        text.removeprefix("\ufeff")
        .replace("\r\n", "\n")
        .replace("\r", "\n")
        .encode("utf-8", "replace")
    )


def _wide_encoding(head: bytes) -> str:
    """UTF-32 or UTF-16, told by the byte order mark or by the zeros in what begins as Latin."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head[1:2] == b"\0" != head[:1]:
        return "utf-16-le"
    return "utf-16-be" if head[:1] == b"\0" != head[1:2] else ""


def text_of_line(line: bytes) -> str:
    """As UTF-8, or what it is not: Windows-1252. Without the end that Windows gives it."""
    line = line.removesuffix(b"\r")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def not_utf8(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[int]:
    """Rows whose bytes aren't UTF-8."""
    first = 0
    while first < len(starts):
        # As many rows as fill a block, at least one.
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + _BLOCK)))
        if not _is_utf8(data[starts[first] : ends[last - 1]]):
            for row in range(first, last):
                if not _is_utf8(data[starts[row] : ends[row]]):
                    yield row
        first = last


def _is_utf8(data: np.ndarray) -> bool:
    """Whether the bytes are, as far as rows are read."""
    try:
        data[: 2 * _BLOCK].tobytes().decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
