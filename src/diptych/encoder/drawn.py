"""A heat map as colours, to be laid over the square that the tower saw."""

import numpy as np
from jaxtyping import Float
from PIL import Image

_COLOURS = ((0.0, (13, 8, 135)), (0.5, (204, 71, 120)), (1.0, (240, 249, 33)))
"""From a map's lowest number to its highest: matplotlib's plasma at three places."""


def drawn(numbers: Float[np.ndarray, "rows columns"], side: int) -> Image.Image:
    """A square of RGBA, from the lowest number (blue, clear) to the highest (yellow, dense).

    >>> import numpy as np
    >>> from diptych.encoder.drawn import drawn
    >>> drawn(np.eye(3), 96).size
    (96, 96)
    """
    low, high = float(numbers.min()), float(numbers.max())
    shares = (numbers - low) / max(high - low, 1e-12)
    small = Image.fromarray(shares.astype(np.float32))
    large = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)
    stops = [stop for stop, _ in _COLOURS]
    colours = np.array([colour for _, colour in _COLOURS])
    channels = [np.interp(large, stops, levels) for levels in colours.T]
    clearness = 30 + 190 * large
    return Image.fromarray(np.stack([*channels, clearness], axis=-1).round().astype(np.uint8))
