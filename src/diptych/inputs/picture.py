"""The forms in which people hand a picture over, and which of them are one picture.

form                          is
----------------------------  ----------------------------------------------------------------------
str, path                     a file's path; `~` is the home folder
bytes, bytearray, memoryview  an encoded file (JPEG, PNG, ...)
file, BytesIO, ...            the same, read from where it stands
Pillow picture                itself
array                         uint8 levels [height, width, 3], [height, width, 4] or grey
                              [height, width]; red comes first
tensor                        uint8 levels [3, height, width]
"""

import os
import re
from os import PathLike
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diptych.bounded import read_whole
from diptych.errors import ImageError, first_line


@runtime_checkable
class File(Protocol):
    """Anything with `read()`: an open file, BytesIO, an upload."""

    def read(self) -> bytes | str:
        """What is left of it; text, where it wasn't opened in binary mode."""
        ...


Picture = (
    Image.Image | bytes | bytearray | memoryview | str | PathLike[str] | File | np.ndarray | Tensor
)
"""One picture, in any of the forms of the module's table."""

MAX_BYTES = 800_000_000
"""Bytes of an encoded picture: more than those of the largest one without compression."""
_CHANNELS = (1, 3, 4)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)


def is_picture(images: object) -> bool:
    """Whether it is one picture, and not several.

    >>> import numpy as np
    >>> from diptych.inputs.picture import is_picture
    >>> levels = np.zeros((60, 80, 3), dtype=np.uint8)
    >>> is_picture(levels), is_picture(levels[None]), is_picture("cat.jpg"), is_picture(["cat.jpg"])
    (True, False, True, False)
    """
    match images:
        case Tensor():
            return images.ndim == 3
        case np.ndarray():
            return images.ndim in (2, 3) and images.dtype.kind in "biuf"
        case _:
            return isinstance(
                images, str | PathLike | bytes | bytearray | memoryview | Image.Image | File
            )


def opened(picture: object) -> tuple[str, Image.Image | bytes | Tensor]:
    """What to call a picture in a message, and the picture: encoded, or as levels. Raises
    ImageError for what is none, or can't be read."""
    name = "the picture"
    match picture:
        case Image.Image():
            return name, picture
        case Tensor():
            return name, _levels(picture)
        case np.ndarray():
            return name, _from_array(picture)
        case bytes() | bytearray() | memoryview():
            return name, bytes(picture)
        case str() | PathLike():
            place = os.fspath(picture)
            return place, _read(place)
        case File():
            return name, _read_file(picture)
        case _:
            raise ImageError(
                f"a picture is a path, bytes, an open file, a Pillow picture, an array or a "
                f"tensor, not {type(picture).__name__}"
            )


def _levels(pixels: Tensor) -> Tensor:
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or len(pixels) != 3 or not pixels.numel():
        raise ImageError(
            "a picture as tensor is UInt8[3, height, width], "
            f"not {pixels.dtype} {list(pixels.shape)}{_advice(pixels.is_floating_point())}"
        )
    return pixels.cpu()


def _from_array(levels: np.ndarray) -> Image.Image:
    grey = levels.ndim == 2
    if levels.dtype != np.uint8 or not (grey or levels.ndim == 3) or not levels.size:
        raise _no_array(levels)
    if not grey and levels.shape[2] not in _CHANNELS:
        raise _no_array(levels)
    return Image.fromarray(levels[:, :, 0] if not grey and levels.shape[2] == 1 else levels)


def _no_array(levels: np.ndarray) -> ImageError:
    return ImageError(
        "a picture as array is uint8 [height, width, 3], "
        f"not {levels.dtype} {list(levels.shape)}{_advice(levels.dtype.kind == 'f')}"
    )


def _advice(floating: bool) -> str:
    return "; values of 0 to 1 are to be multiplied by 255 and rounded" if floating else ""


def _read(place: str) -> bytes:
    if not place:
        raise ImageError("the picture's path is empty")
    path = Path(os.path.expanduser(place))
    try:
        return read_whole(path, MAX_BYTES)
    except FileNotFoundError as error:
        if _ADDRESS.match(place):
            raise ImageError(
                f"{place[:80]} is an address, and only files are read: fetch it first, and give "
                "its bytes"
            ) from error
        raise ImageError(f"{path} doesn't exist") from error
    except IsADirectoryError as error:
        raise ImageError(f"{path} is a folder, not a picture") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} can't be read: {first_line(error)}") from error


def _read_file(file: File) -> bytes:
    try:
        data = file.read()
    except (OSError, ValueError) as error:
        raise ImageError(f"the file can't be read: {first_line(error)}") from error
    if not isinstance(data, bytes):
        raise ImageError("the file was opened as text; open it in binary mode, 'rb'")
    return data
