"""A share of a source's samples: the same for the same seed, and nested."""

import math

import numpy as np
from jaxtyping import Int64

from diptych.data.order import permute

_KEY = 0x5A
"""Keeps a share's order apart from those of a run's epochs."""


def rows_of_share(size: int, share: float, seed: int = 0) -> Int64[np.ndarray, " n"]:
    """The places of ceil(share * size) of `size` samples, in rising order: the first ones of a
    random permutation, so that a smaller share of the same seed is part of a larger one.

    >>> from diptych.data.share import rows_of_share
    >>> few, many = (set(rows_of_share(100, share).tolist()) for share in (0.1, 0.3))
    >>> len(few), len(many), few < many
    (10, 30, True)
    """
    # Rounded first: 0.1 * 30 is a little above 3.
    count = math.ceil(round(share * size, 6))
    return np.sort(permute(np.arange(count), size, key=(_KEY, seed)))
