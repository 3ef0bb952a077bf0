"""A row of an index: a picture as a line of JSON, with a checksum over the line and its vector.

So whatever happens to one of the two is noticed: a bit that flips, rows that change places, a
line that is lost or doubled, vectors of another type, of another index or of another model. The
checksum is the line's last field, at a fixed distance from its end: checking takes no parser.
"""

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import get_type_hints

import numpy as np
from jaxtyping import Bool, UInt8

from diptych.search.pictures import Picture

_PLAIN = ("path", "size", "mtime_ns", "digest")
_KINDS = get_type_hints(Picture)
_TAIL = len(b', "check": "00000000"}\n')


@dataclass(frozen=True)
class Places:
    """Where pictures are looked for. Those beside an index, or below, are written relative to the
    folder it lies in: moved together, they find each other."""

    now: str
    """The folder that the index lies in."""
    then: str = ""
    """Where that was when its lines were written."""

    def relative(self, path: str) -> str:
        """As it is written."""
        start = self.now.rstrip(os.sep) + os.sep
        return path.removeprefix(start)

    def absolute(self, path: str, file: str) -> str:
        """What was written as the relative `path`, of the `file` (or shard): beside the index
        where it lies now if the file is there, else where it lay."""
        here = os.path.join(self.now, file)
        moved = self.then and self.then != self.now and not os.path.lexists(here)
        return os.path.join(self.then if moved else self.now, path)

    def moved(self, path: str) -> str:
        """Where an absolute path leads now, if what it named isn't there and moved with the
        index; else the path."""
        below = path.removeprefix(self.then.rstrip(os.sep) + os.sep)
        here = os.path.join(self.now, below)
        gone = self.then and below != path and not os.path.lexists(path)
        return here if gone and os.path.lexists(here) else path


def to_line(picture: Picture, vector: bytes, seed: int, places: Places) -> bytes:
    """The line of a row; `seed` stands for the model."""
    values = asdict(picture)
    if not picture.shard:
        values = {name: values[name] for name in _PLAIN}
    elif not picture.text:
        del values["text"]
    for name in {"path", "shard"} & values.keys():
        values[name] = places.relative(values[name])
    text = json.dumps(values)[:-1].encode()
    return text + _tail(text, vector, seed)


def from_line(line: bytes, places: Places) -> Picture:
    """The picture of a line. Raises ValueError, RecursionError or TypeError for what is none."""
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("no picture, but " + type(values).__name__)
    values.pop("check", None)
    for name, value in values.items():
        if type(value) is not _KINDS.get(name):
            raise ValueError(f"no picture has {name} {value!r:.100}")
    picture = Picture(**values)
    if os.path.isabs(picture.file):
        return picture
    return replace(
        picture,
        path=places.absolute(picture.path, picture.file),
        shard=picture.shard and places.absolute(picture.shard, picture.file),
    )


def agreeing(
    text: UInt8[np.ndarray, " bytes"],
    starts: Sequence[int],
    ends: Sequence[int],
    vectors: np.ndarray,
    seed: int,
) -> Bool[np.ndarray, " rows"]:
    """Which rows' lines, which start and end there, and vectors are as they were written: about a
    microsecond each."""
    agree = np.zeros(len(ends), bool)
    if not len(agree):
        return agree
    lines, numbers, width = text.data, vectors.data.cast("B"), vectors.strides[0]
    for row, (start, end) in enumerate(zip(starts, ends)):
        middle = max(start, end - _TAIL)
        vector = numbers[row * width : (row + 1) * width]
        agree[row] = lines[middle:end].tobytes() == _tail(lines[start:middle], vector, seed)
    return agree


def _tail(text: bytes | memoryview, vector: bytes | memoryview, seed: int) -> bytes:
    return b', "check": "%08x"}\n' % zlib.crc32(text, zlib.crc32(vector, seed))
