"""What a picture's file says of itself before it is decoded: size, camera, when it was taken."""

import io
import os
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from diptych.errors import ImageError
from diptych.inputs.images import DECODE_ERRORS, ORIENTATION, readable

T = TypeVar("T")
_MAKE, _MODEL, _CHANGED = 0x010F, 0x0110, 0x0132
_EXIF, _TAKEN = 0x8769, 0x9003
"""The part of EXIF that holds what the camera did, and in it, when."""
_SIGNATURE, _CHECKSUM = 8, 4
"""Bytes of a PNG's beginning, and behind each of its chunks."""
_LONGEST = 100
"""Letters of a camera's name."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Of one picture."""

    width: int
    height: int
    """Pixels of the picture upright."""
    taken: datetime | None = None
    """By the camera's clock, which says no time zone; None: EXIF doesn't say."""
    camera: str = ""
    """Make and model."""


def read_header(picture: Path | bytes) -> Header:
    """The header of a file, or of one that is in memory; nothing is decoded. Raises ImageError for
    what is no picture, OSError for what can't be read.

    >>> import io
    >>> from PIL import Image
    >>> from diptych.inputs.header import read_header
    >>> Image.new("RGB", (64, 48)).save(file := io.BytesIO(), "PNG")
    >>> read_header(file.getvalue())
    Header(width=64, height=48, taken=None, camera='')
    """
    return _read(picture, _header)


def read_size(picture: Path | bytes) -> tuple[int, int]:
    """Width and height as they are stored, which isn't always upright: all that a header says
    without looking for EXIF, which may stand behind the pixels. Raises as `read_header`."""
    return _read(picture, lambda image: image.size)


def _read(picture: Path | bytes, said: Callable[[Image.Image], T]) -> T:
    if isinstance(picture, Path) and not stat.S_ISREG(os.stat(picture).st_mode):
        raise ImageError(f"{picture} is no regular file")  # to read a pipe is to wait for ever
    try:
        try:
            return _open(picture, said)
        except Warning:  # Pillow's doubts, where they are errors
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _open(picture, said)
    except (Image.DecompressionBombError, *DECODE_ERRORS) as error:
        raise ImageError(f"its header can't be read: {error or type(error).__name__}") from error


def _open(picture: Path | bytes, said: Callable[[Image.Image], T]) -> T:
    source = picture if isinstance(picture, Path) else io.BytesIO(picture)
    with Image.open(source, formats=readable()) as image:
        return said(image)


def _header(image: Image.Image) -> Header:
    width, height = image.size
    try:
        exif = _exif(image)
        if exif.get(ORIENTATION) in (5, 6, 7, 8):
            width, height = height, width
        taken = _date(exif.get_ifd(_EXIF).get(_TAKEN)) or _date(exif.get(_CHANGED))
        camera = _camera(_text(exif.get(_MAKE)), _text(exif.get(_MODEL)))
    except DECODE_ERRORS:  # a corrupt EXIF block is as good as none
        return Header(width=width, height=height)
    return Header(width=width, height=height, taken=taken, camera=camera)


def _exif(image: Image.Image) -> Image.Exif:
    """What the camera said. Pillow would decode all of a PNG, to see what stands behind its pixels:
    here they are passed over."""
    exif = Image.Image.getexif(image)
    if not exif and isinstance(image, PngImageFile):
        exif.load(_behind_pixels(image.fp))
    return exif


def _behind_pixels(png: Any) -> bytes:
    """The EXIF of a PNG's file, wherever it stands (PNG, 3rd edition, §5.3 and §11.3.4.5); empty:
    it has none."""
    png.seek(_SIGNATURE)
    while len(start := png.read(8)) == 8:
        size = int.from_bytes(start[:4], "big")
        if start[4:] == b"eXIf":
            return png.read(size)
        png.seek(size + _CHECKSUM, os.SEEK_CUR)
    return b""


def _date(value: object) -> datetime | None:
    try:
        return datetime.strptime(_text(value), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None


def _camera(make: str, model: str) -> str:
    """Some models' names begin with the make."""
    first = make.split(" ")[0].lower()
    return model if model.lower().startswith(first) else f"{make} {model}".strip()


def _text(value: object) -> str:
    letters = value if isinstance(value, str) else ""
    return "".join(letter for letter in letters[:_LONGEST] if letter.isprintable()).strip()
