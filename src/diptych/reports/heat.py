"""Heat maps over their pictures, as a file that can be looked at."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from diptych.encoder.drawn import drawn
from diptych.errors import ImageError
from diptych.inputs import decode
from diptych.terminal import escaped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INCHES = 2.6
"""Side of a square."""
_LETTERS = 32
"""Of a text, in a line over its map."""


def overlay(
    pictures: Sequence[UInt8[Tensor, "3 _ _"]],
    maps: Float[Tensor, "pictures texts rows columns"],
    texts: Sequence[str],
    names: Sequence[str],
) -> "Figure":
    """A row for each picture: what the tower sees of it, then this under the map of each text, from
    the map's lowest number (blue) to its highest (red).

    >>> import torch
    >>> from diptych.reports.heat import overlay
    >>> pictures = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    >>> figure = overlay([*pictures], torch.rand(2, 3, 4, 4), ["a", "b", "c"], ["x.png", "y.png"])
    >>> len(figure.axes)
    8
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False, "font.size": 9}):
        shape = (_INCHES * (1 + len(texts)), _INCHES * 1.12 * len(pictures))
        figure = Figure(figsize=shape, layout="constrained")
        axes = figure.subplots(len(pictures), 1 + len(texts), squeeze=False)
        for row, levels, its_maps, name in zip(axes, pictures, maps, names, strict=True):
            height, width = levels.shape[1:]
            place = (-0.5, width - 0.5, height - 0.5, -0.5)  # each patch over its own pixels
            for axis, title in zip(row, (name, *texts), strict=True):
                axis.imshow(levels.permute(1, 2, 0).numpy())
                axis.set_title(_short(title))
                axis.set_axis_off()
            for axis, each in zip(row[1:], its_maps, strict=True):
                axis.imshow(
                    each.numpy(), cmap="jet", alpha=0.5, extent=place, interpolation="bicubic"
                )
    return figure


def laid_over(square: bytes, levels: Sequence[Sequence[int]]) -> Image.Image | None:
    """A picture under a heat map; None where it is no picture.

    >>> from diptych.reports.heat import laid_over
    >>> laid_over(b"no picture", [[0, 1]]) is None
    True
    """
    try:
        pixels = decode(square).permute(1, 2, 0).numpy()
    except ImageError:
        return None
    picture = Image.fromarray(pixels).convert("RGBA")
    side = max(picture.size)
    colours = drawn(np.array(levels, np.float64), side).resize(picture.size)
    return Image.alpha_composite(picture, colours).convert("RGB")


def _short(text: str) -> str:
    shown = escaped(text)
    return shown if len(shown) <= _LETTERS else f"{shown[: _LETTERS - 1]}…"
