"""Reading within limits: what a stranger wrote takes no more memory than its reader expects, and
waits for nobody."""

import contextlib
import json
import os
import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

_VALUE = 100
"""Bytes that Python takes for a value in JSON, at most, besides its text."""
_TEXT = 100_000_000
"""Bytes of a text that people write, at most, such as a list of names."""
_MEMORY = 2_000_000_000
"""Bytes that what JSON holds may take in memory."""
_DIGITS = 300
"""Of a whole number in JSON; one of 309 is too large for a `float`."""


def read_whole(path: str | Path, most: int) -> bytes:
    """A file's content. Raises ValueError where it has more than `most` bytes or is a pipe, a
    device or a socket, which would be waited for; OSError where it can't be read.

    >>> from diptych.bounded import read_whole
    >>> read_whole("/dev/zero", most=1000)
    Traceback (most recent call last):
    ValueError: it is no regular file
    """
    _refuse_special(path)
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise ValueError(f"it has more than {most:,} bytes")
        return file.read()


def read_text(path: str | Path, most: int = _TEXT) -> str:
    """A text file in UTF-8, without the mark that some programs begin it with; raises as
    `read_whole`, and ValueError for what is no UTF-8.

    >>> import tempfile
    >>> from diptych.bounded import read_text
    >>> path = Path(tempfile.mkdtemp(), "names.txt")
    >>> _ = path.write_text("cat\\ndog")
    >>> read_text(path)
    'cat\\ndog'
    """
    return read_whole(path, most).decode("utf-8-sig")


def read_lines(path: str | Path, longest: int = _TEXT) -> Iterator[str]:
    """The lines of a text file, however long it is, one at a time, without what ends them. Raises
    as `read_text`, and ValueError for a line of more than `longest` letters.

    >>> import tempfile
    >>> from diptych.bounded import read_lines
    >>> path = Path(tempfile.mkdtemp(), "names.txt")
    >>> _ = path.write_text("cat\\ndog")
    >>> list(read_lines(path))
    ['cat', 'dog']
    """
    _refuse_special(path)
    with open(path, encoding="utf-8-sig") as file:
        while line := file.readline(longest + 1):
            if len(line) > longest:
                raise ValueError(f"it has a line of more than {longest:,} letters")
            yield line.rstrip("\n")


@contextlib.contextmanager
def little_memory(most: int) -> Generator[None]:
    """Within, the process gets at most so many bytes beside what it has: a library that makes the
    room of which a stranger's file speaks raises MemoryError. On Linux; elsewhere nothing is held.

    >>> from diptych.bounded import little_memory
    >>> with little_memory(most=1 << 28):
    ...     taken = bytearray(1000)
    """
    pages = "/proc/self/statm"
    if not os.path.exists(pages):
        yield
        return
    import resource  # not on Windows

    with open(pages) as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limits = [taken + most, *(each for each in (soft, hard) if each != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def parse_json(text: bytes | str, finite: bool = False) -> Any:
    """What JSON says. Raises ValueError for what is none, is nested too deeply, holds a number too
    large for a `float`, or would take more than 2 GB of memory.

    `finite`: refuse NaN and Infinity, too, which Python writes, and JSON doesn't know.

    >>> from diptych.bounded import parse_json
    >>> parse_json(b'{"caption": "a cat"}')
    {'caption': 'a cat'}
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: its values are nested too deeply
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    values = sum(map(data.count, (b",", b"[", b"{")))
    # One emoji makes each letter of the text take four bytes.
    if len(data) * (2 if data.isascii() else 8) + _VALUE * values > _MEMORY:
        raise ValueError("its values would take more than 2 GB of memory")
    try:
        constant = _no_constant if finite else float
        return json.loads(text, parse_int=_whole_number, parse_constant=constant)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def _refuse_special(path: str | Path) -> None:
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ValueError("it is no regular file")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _whole_number(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)
