"""From a picture in any form to RGB bytes: one defined result for every kind of file.

what                        becomes
--------------------------  ------------------------------------------------------------------------
RGB, grey, grey + alpha,    RGB; transparency is dropped, not composited: the colours that are
RGBA, palette, 1 bit        stored count, as in open_clip and torchvision (`convert("RGB")`)
16-bit grey, 32-bit grey    levels 0..65535 scaled to 0..255, rounded (Pillow would clip to white)
16-bit colour               the upper eight bits
CMYK, YCCK, YCbCr, Lab      Pillow's conversion, without colour profiles
turned by EXIF or XMP       upright (open_clip leaves it lying)
animated, several pages     the first picture
JPEG with a corrupt part    what libjpeg makes of it, as in Pillow, as long as no data is missing
truncated, empty, no        ImageError
picture, a folder, absent
any other format            ImageError, even if Pillow reads it: PostScript would be executed
more than MAX_PIXELS, or    ImageError, known from the header, before anything is decoded
than `room.MOST` bytes
"""

import io
import struct
import warnings
import zlib
from functools import cache

import numpy as np
import simplejpeg
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from diptych.errors import ImageError
from diptych.inputs.picture import Picture, opened
from diptych.inputs.room import room

MAX_PIXELS = 178_956_970
"""Where Pillow, too, refuses."""
_BAND = 1 << 22
"""Pixels that are converted to RGB at once."""
_GIANT, _BLOCK = 1 << 25, 1 << 26
"""Pixels from which on memory comes in blocks of so many bytes, which go back to the system."""
_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "GIF", "AVIF", "JPEG2000", "TIFF", "BMP", "DIB", "QOI"),
    *("PPM", "TGA"),  # the last has no mark of its own, and takes much for one
)
"""What is read, in Pillow's names. Its other readers are seldom used and less tried; one runs
Ghostscript, some hold pictures of other sizes than they say."""
_BYTES = {"WEBP": 20, "JPEG2000": 20, "AVIF": 14}
"""Bytes that decoding takes for a pixel, besides the encoded ones (measured)."""
_JPEG_BYTES, _PROGRESSIVE_BYTES, _OTHER_BYTES = 4, 9, 7
"""The same of a JPEG that is decoded row by row, of one that isn't, and of all others."""
_SCANS = 20
"""How often a progressive JPEG of MAX_PIXELS may go over its pixels; a smaller one more often."""

ORIENTATION = 0x0112
# What Pillow's readers raise when a file is not what its header says.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)


def decode(picture: Picture, at_least: int | None = None) -> UInt8[Tensor, "3 height width"]:
    """The picture as RGB levels, upright; the table in this module's docstring says what becomes of
    each kind.

    `at_least`: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its shorter side
    keeps that many pixels: up to twice as fast for camera pictures. Kept at twice the size needed,
    it changes a resized picture by 0.3 levels. Raises ImageError, with the name of the file where
    there is one.

    >>> from PIL import Image
    >>> from diptych.inputs import decode
    >>> decode(Image.new("L", (640, 480), 200)).shape
    torch.Size([3, 480, 640])
    """
    name, found = opened(picture)
    if isinstance(found, Tensor):
        return found
    try:
        with room.held():
            return _decode_quietly(found, at_least)
    except ImageError as error:
        raise ImageError(f"{name} {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture of a known format ({', '.join(readable())})"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name} has more than {MAX_PIXELS} pixels; scale it down first"
        ) from error
    except DECODE_ERRORS as error:
        raise ImageError(f"{name} can't be decoded: {error or type(error).__name__}") from error


def import_readers() -> None:
    """Import what reads pictures, a tenth of a second: processes that are forked afterwards have
    it."""
    readable()


@cache
def readable() -> tuple[str, ...]:
    """The formats that this Pillow reads."""
    Image.init()
    return tuple(kind for kind in _FORMATS if kind in Image.OPEN)


def _decode_quietly(picture: Image.Image | bytes, at_least: int | None) -> Tensor:
    try:
        return _decode(picture, at_least)
    except Warning:
        # Pillow's doubts about a file are the user's to see, unless the user's filters make them
        # errors.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(picture, at_least)


def _decode(picture: Image.Image | bytes, at_least: int | None) -> Tensor:
    if isinstance(picture, Image.Image):
        image, pixels = picture, None
        _check_size(image, 0)
    elif not picture:
        raise ImageError("is empty (0 bytes)")
    else:
        image = Image.open(io.BytesIO(picture), formats=readable())  # reads the header only
        plain_jpeg = image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")
        _check_size(image, len(picture))
        if "progressive" in image.info:
            _check_scans(image, picture)
        pixels = _decode_jpeg(picture, image.size, at_least) if plain_jpeg else None
    if pixels is None:
        pixels = _decode_slowly(image)
    return _upright(torch.from_numpy(pixels).permute(2, 0, 1), _orientation(image))


def _check_size(image: Image.Image, encoded: int) -> None:
    """Refuse what has too many pixels, and wait until there is room for the others."""
    width, height = image.size
    if not width * height:
        raise ImageError(f"has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"has {width} x {height} pixels, more than {MAX_PIXELS}; scale it down first"
        )
    room.take(width * height * _bytes_per_pixel(image) + encoded)


def _bytes_per_pixel(image: Image.Image) -> int:
    if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
        return _PROGRESSIVE_BYTES if "progressive" in image.info else _JPEG_BYTES
    return _BYTES.get(image.format or "", _OTHER_BYTES)


def _check_scans(image: Image.Image, data: bytes) -> None:
    """Each scan of a progressive JPEG goes over all pixels, and may be written in a few bytes."""
    scans = data.count(b"\xff\xda")
    if scans * image.width * image.height > _SCANS * MAX_PIXELS:
        raise ImageError(
            f"is a progressive JPEG of {scans} scans over {image.width} x {image.height} pixels: "
            "it was made to take long"
        )


def _decode_jpeg(data: bytes, size: tuple[int, int], at_least: int | None) -> np.ndarray | None:
    """[height, width, 3] by libjpeg-turbo, the same levels as Pillow's; None when it has any
    complaint."""
    width, height = size
    # libjpeg's inverse cosine transform can give an 8 x 8 block as 4 x 4, 2 x 2 or 1 x 1 pixels,
    # its lowest frequencies alone: the size halves and most of the work with it.
    factor = 1
    while at_least and factor < 8 and min(size) >= 2 * factor * at_least:
        factor *= 2
    try:
        return simplejpeg.decode_jpeg(
            data, "RGB", min_height=-(-height // factor), min_width=-(-width // factor)
        )
    except ValueError:
        return None


def _decode_slowly(image: Image.Image) -> np.ndarray:
    """[height, width, 3] by Pillow, in bands: a giant of one bit a pixel would need 8 times as much
    memory as its levels, which is most of a gigabyte already."""
    if image.format == "EPS":
        raise ImageError("is PostScript, which would have to be executed; convert it first")
    (width, height), rows = image.size, max(1, _BAND // image.width)
    if width * height > _GIANT:
        # Pillow keeps pixels in blocks, by default small enough for malloc to hold on to them: a
        # thread that once had a giant would keep its memory.
        Image.core.set_block_size(_BLOCK)
    image.load()
    if rows >= height:
        return _levels(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        pixels[top : top + rows] = _levels(image.crop((0, top, width, min(top + rows, height))))
    return pixels


def _levels(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64).clip(0, 65535)
        # 65535 = 255 * 257: dividing by 257 maps the two ranges' ends on each other; + 128 rounds.
        return np.repeat(((levels + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "P":
        # A palette's transparency may be an entry of its own; through RGBA the colours stay, and
        # Pillow doesn't warn.
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _orientation(image: Image.Image) -> object:
    """The EXIF or XMP orientation, 1 to 8; other values mean nothing. A corrupt EXIF block is
    as good as none."""
    try:
        return image.getexif().get(ORIENTATION)
    except DECODE_ERRORS:
        return None


def _upright(pixels: Tensor, orientation: object) -> Tensor:
    """Undo one of the eight orientations (EXIF 2.32 §4.6.4)."""
    match orientation:
        case 2:
            return pixels.flip(2)
        case 3:
            return pixels.flip(1, 2)
        case 4:
            return pixels.flip(1)
        case 5:
            return pixels.transpose(1, 2)
        case 6:
            return pixels.transpose(1, 2).flip(2)
        case 7:
            return pixels.transpose(1, 2).flip(1, 2)
        case 8:
            return pixels.transpose(1, 2).flip(1)
        case _:
            return pixels
