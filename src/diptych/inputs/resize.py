"""Antialiased resizing of levels, as Pillow does it, several times faster.

Antialiased: where a picture gets smaller, the filter (the cubic or the triangle) is stretched by
the same factor, so that each new pixel is a weighted mean of all old pixels that it covers. Without
that, only the 4 x 4 (2 x 2) nearest ones would count, and fine textures would turn into moiré. The
filter is separable: rows and columns are resized one after the other.

PyTorch's kernel for bytes is Pillow's algorithm with coarser weights: equal within 1 level, 2 in a
few of a million values.
"""

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

Interpolation = Literal["bicubic", "bilinear"]
STRIP = 4
"""Resized pictures of more than this many times the crop's area are computed only where they are
needed."""


def resize(
    pixels: UInt8[Tensor, "3 height width"], size: tuple[int, int], interpolation: Interpolation
) -> UInt8[Tensor, "3 new_height new_width"]:
    """The picture at `size` = (height, width), antialiased when it gets smaller.

    >>> import torch
    >>> from diptych.inputs.resize import resize
    >>> resize(torch.full((3, 40, 60), 7, dtype=torch.uint8), (20, 30), "bicubic").unique()
    tensor([7], dtype=torch.uint8)
    """
    if pixels.shape[1:] == size:
        return pixels
    # Interleaved channels, the layout in which pictures are decoded, take half the time of separate
    # ones.
    batch = pixels[None].contiguous(memory_format=torch.channels_last)
    if _rows_first(pixels.shape[1:], size):
        batch = F.interpolate(batch, (size[0], pixels.shape[2]), mode=interpolation, antialias=True)
    return F.interpolate(batch, size, mode=interpolation, antialias=True)[0]


def _rows_first(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether the height is resized before the width. The levels between the two are rounded, so
    the order shows.

    The width comes first unless the height shrinks by much more: Pillow's rule, since version 13.
    """
    return old[0] > new[0] and old[0] - new[0] > 2 * (old[1] - new[1])


def resize_shortest_and_crop(
    pixels: UInt8[Tensor, "3 height width"], shortest: int, side: int, interpolation: Interpolation
) -> UInt8[Tensor, "3 {side} {side}"]:
    """The shorter side to `shortest`, then the central square: torchvision's Resize(shortest),
    CenterCrop(side)."""
    height, width = pixels.shape[1:]
    # Longer sides are truncated, margins rounded: torchvision's rules, else the crop is a pixel
    # off.
    short = min(height, width)
    new_height, new_width = int(shortest * height / short), int(shortest * width / short)
    top, left = round((new_height - side) / 2), round((new_width - side) / 2)
    if new_height * new_width > STRIP * side * side:
        return _resize_strip(pixels, (new_height, new_width), (top, left), side, interpolation)
    return resize(pixels, (new_height, new_width), interpolation)[
        :, top : top + side, left : left + side
    ]


def _resize_strip(
    pixels: Tensor,
    size: tuple[int, int],
    corner: tuple[int, int],
    side: int,
    interpolation: Interpolation,
) -> Tensor:
    """The square of `side` at `corner` of the picture resized to `size`, by Pillow, which can
    compute a part of it."""
    (height, width), (top, left) = pixels.shape[1:], corner
    # The square's edges in pixels of the picture: `box` takes fractions, so the filter's weights
    # are those of the whole resized picture.
    row, column = height / size[0], width / size[1]
    rows, columns = (
        (top * row, min((top + side) * row, height)),
        (left * column, min((left + side) * column, width)),
    )
    rows_first = _rows_first((height, width), size)
    # The filter reaches two new pixels, or two old ones, beyond the square. Of a picture a pixel
    # wide and millions high, enlarging the other rows would take all memory.
    reach = 2 * max(row, 1) + 1
    first, last = max(0, int(rows[0] - reach)), min(height, math.ceil(rows[1] + reach))
    pixels, rows, height = pixels[:, first:last], (rows[0] - first, rows[1] - first), last - first
    kind = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    image = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    if rows_first:
        image = image.resize((width, side), kind, box=(0, rows[0], width, rows[1]))
        image = image.resize((side, side), kind, box=(columns[0], 0, columns[1], side))
    else:
        image = image.resize((side, height), kind, box=(columns[0], 0, columns[1], height))
        image = image.resize((side, side), kind, box=(0, rows[0], side, rows[1]))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
