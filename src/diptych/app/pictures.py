"""The pictures of an index as a browser gets them: small JPEGs, of what was indexed and nothing
else."""

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from diptych.data.bounded_folder import BoundedFolder
from diptych.encoder.drawn import drawn
from diptych.errors import DataError, ImageError
from diptych.inputs import decode
from diptych.search import Picture
from diptych.search.pictures import digest

SMALL, LARGE = 360, 1600
"""Longer sides of a thumbnail and of a picture that is looked at, in pixels."""
_QUALITY = 82
_LONGEST = 1 << 24
"""Bytes of a JPEG of ours, at most."""


class Gone(DataError):
    """A picture isn't there any more, or isn't what was indexed."""


def fingerprint(picture: Picture) -> str:
    """Of what was indexed, 16 hexadecimal digits: the same as long as the picture is.

    >>> from diptych.app.pictures import fingerprint
    >>> from diptych.search import Picture
    >>> fingerprint(Picture(path="/a.jpg", size=1, mtime_ns=2, digest="ab" * 16))
    'd2f9fa9d99bb30b2'
    """
    known = picture.digest or f"{picture.path} {picture.size} {picture.mtime_ns} {picture.offset}"
    return hashlib.sha256(known.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Pictures:
    """Reads pictures that lie in the indexed places, and keeps what it makes of them in a folder of
    bounded size.

    `places` gives those that are indexed now, as `os.path.realpath` has them. Where it gives none,
    as of an index of before, a picture has to lie in the folder that it was found in.
    """

    def __init__(self, places: Callable[[], Sequence[str]], kept: BoundedFolder):
        self._places, self._kept = places, kept

    def is_there(self, picture: Picture) -> bool:
        """Whether its file is."""
        return os.path.lexists(picture.file)

    def read(self, picture: Picture) -> bytes:
        """The bytes that were indexed. Raises Gone if its file leads out of what was indexed,
        isn't there or holds other bytes now."""
        self._check(picture)
        try:
            data = picture.read()
        except (OSError, ImageError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise Gone(f"the picture can't be read: {reason or error}") from error
        if picture.digest and digest(data) != picture.digest:
            raise Gone("the picture has changed since it was indexed; update the index")
        return data

    def jpeg(self, picture: Picture, side: int) -> bytes:
        """The picture with a longer side of at most `side` pixels, upright; kept. Raises Gone,
        ImageError."""
        self._check(picture)
        try:
            state = os.stat(picture.file)
        except OSError as error:
            raise Gone(f"the picture can't be read: {error.strerror}") from error
        name = f"{fingerprint(picture)}-{side}.jpg"
        as_indexed = (state.st_size, state.st_mtime_ns) == (picture.size, picture.mtime_ns)
        if as_indexed and (kept := self._kept.read(name, 0, _LONGEST)):
            return kept
        made = shrunk(self.read(picture), side)
        self._kept.put(name, made)
        return made

    def _check(self, picture: Picture) -> None:
        """Raises Gone for a file that leads out of what was indexed: a link, or a folder that is
        one."""
        try:
            real = os.path.realpath(picture.file)
        except ValueError as error:  # a NUL, or half a character, which no index of ours holds
            raise Gone("the picture's name is none that a file can have") from error
        places = self._places() or [os.path.realpath(os.path.dirname(picture.file))]
        if not any(real == place or Path(real).is_relative_to(place) for place in places):
            raise Gone("the picture's file leads out of the folders that were indexed")


def shrunk(data: bytes, side: int) -> bytes:
    """A picture as a JPEG of at most `side` pixels a side, without its metadata. Raises
    ImageError."""
    levels = decode(data, at_least=side)
    image = Image.fromarray(np.ascontiguousarray(levels.permute(1, 2, 0).numpy()))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return as_jpeg(image)


def square(levels: UInt8[Tensor, "3 height width"]) -> bytes:
    """What the model sees of a picture, as a JPEG."""
    return as_jpeg(Image.fromarray(np.ascontiguousarray(levels.permute(1, 2, 0).numpy())))


def as_jpeg(image: Image.Image) -> bytes:
    """The bytes of a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, progressive=True)
    return file.getvalue()


def heat(numbers: Float[Tensor, "rows columns"], side: int = 448) -> bytes:
    """A heat map as a PNG to be laid over the square, from its lowest number (blue, clear) to its
    highest (yellow, dense).

    >>> import torch
    >>> from diptych.app.pictures import heat
    >>> heat(torch.eye(3))[:4]
    b'\\x89PNG'
    """
    file = io.BytesIO()
    drawn(numbers.numpy(), side).save(file, "PNG")
    return file.getvalue()
