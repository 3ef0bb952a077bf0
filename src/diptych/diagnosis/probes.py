"""The pictures and texts that loads are compared on, always the same."""

from functools import cache

import numpy as np
from PIL import Image

TEXTS = (
    "a photo of a cat",
    "A Photo Of Two DOGS, running!",
    "",
    "naïve café – 猫の写真 🐈",
    "<b>fish &amp; chips</b>   on\ta_table",
    " ".join(["a very long description of a red bicycle that leans on a green door"] * 12),
)
"""Plain, with capitals and punctuation, empty, Unicode, with entities and odd spaces, and longer
than any context."""

_SIDES = ((252, 336), (336, 252), (64, 96), (448, 300))
"""Height and width: lying and upright, one smaller than most models' squares. The first two leave
even margins at the usual sizes, which no library rounds."""


def pictures() -> list[Image.Image]:
    """Pictures of no square shape, with edges, slow and fast waves: what resizing, cropping and
    normalising change.

    >>> from diptych.diagnosis.probes import pictures
    >>> [picture.size for picture in pictures()]
    [(336, 252), (252, 336), (96, 64), (300, 448)]
    """
    return [_picture(number, *sides) for number, sides in enumerate(_SIDES)]


@cache
def _picture(number: int, height: int, width: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width] / min(height, width)
    # Waves that get faster to the right: what is left of them tells one filter from another.
    waves = np.sin(2 * np.pi * (2 + 20 * x) * x + number)
    slope = x - y
    disc = ((x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.05) * 2.0 - 1
    channels = np.roll(np.stack([waves, slope, disc]), number, axis=0)
    levels = np.clip(127.5 + 100 * channels, 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))
