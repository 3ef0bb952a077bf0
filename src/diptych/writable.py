"""Whether something can be written to a place: found out before the work, not after it."""

import contextlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from diptych.durable import unfinished
from diptych.errors import ConfigError

_BYTES = 2**16
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(/|$)")
"""A scheme of two letters or more (one is a drive of Windows), such as s3: or hf:// before a
place."""


def check_writable(folder: str | os.PathLike[str], flag: str) -> None:
    """Try to write into a folder, or to make it; nothing is left of the trial. Raises ConfigError
    where that fails: an address of the internet, an empty name, a file in place of a folder, a
    read-only or full disk.

    >>> from diptych.writable import check_writable
    >>> check_writable("s3://bucket/run", "--out")
    Traceback (most recent call last):
    ...
    diptych.errors.ConfigError: --out s3://bucket/run is no folder of this machine: write to a \
disk, or mount that place, and name the folder where it is mounted
    """
    check_local(folder, flag)
    place = Path(folder)
    missing = [each for each in (place, *place.parents) if not os.path.lexists(each)]
    made = list[Path]()
    try:
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            made.append(each)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(
            f"nothing can be written into {place} ({flag}): {error.strerror}; choose another {flag}"
        ) from None
    finally:
        with contextlib.suppress(OSError):  # somebody else has put something there
            for each in reversed(made):
                each.rmdir()


def check_new(place: str | os.PathLike[str], flag: str) -> None:
    """Try to write beside a file, or a folder, that will appear at `place`, as `check_writable`
    tries it. Raises ConfigError as it does, and for a name that is too long."""
    check_local(place, flag)
    check_writable(Path(place).parent, flag)
    try:
        os.lstat(unfinished(Path(place)))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigError(f"{flag} {place}: {error.strerror}; choose another") from None


def check_file(place: str | os.PathLike[str], flag: str) -> None:
    """As `check_new`, of a file, which may stand there already. Raises ConfigError for a folder,
    too, and for a pipe or a device, which no file may replace."""
    check_new(place, flag)
    if os.path.exists(place) and not os.path.isfile(place):
        kind = "a folder" if os.path.isdir(place) else "no regular file"
        raise ConfigError(f"{flag} {place} is {kind}; name a file")


def check_apart(places: Mapping[str, str]) -> None:
    """Raises ConfigError for two flags (flag -> the file) of which the second would be written over
    what the first has written.

    >>> from diptych.writable import check_apart
    >>> check_apart({"--out": "a.csv", "--predictions": "./a.csv"})
    Traceback (most recent call last):
    ...
    diptych.errors.ConfigError: --out and --predictions are the same file, ./a.csv; name another
    """
    known = dict[str, str]()
    for flag, place in places.items():
        path = os.path.abspath(os.path.expanduser(place))
        if place and path in known:
            raise ConfigError(f"{known[path]} and {flag} are the same file, {place}; name another")
        known[path] = flag


def check_local(place: str | os.PathLike[str], flag: str) -> None:
    """Raises ConfigError for what names no place on a disk."""
    text = os.fspath(place)
    if not text.strip():
        raise ConfigError(f"{flag} is empty: name a place")
    if "://" in text or _ADDRESS.match(text):
        raise ConfigError(
            f"{flag} {text} is no folder of this machine: write to a disk, or mount that place, "
            "and name the folder where it is mounted"
        )
