"""Which patches of a picture are hidden, for masked image modelling.

A function of a random generator alone, so that a sample's views can be made again.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from diptych.batch import HiddenView

_LEAST = 16
"""Patches of the smallest block that is drawn, of grids that are not too small for it."""
_ASPECT = 0.3
"""Height / width of a block lies between this and its inverse."""
_ATTEMPTS = 10


@dataclass(frozen=True)
class BlockMask:
    """BEiT's blockwise masks (Bao et al. 2021, arXiv:2106.08254, algorithm 1, and its code):
    rectangles are laid over each other until `count` patches are hidden.

    A rectangle's area is uniform between 16 patches and those that are left to hide, the logarithm
    of its height / width uniform; it counts if it hides at least one patch more, and none too many.
    When ten in a row don't, that was all: of 105 of 256 patches, 94 to 105 are hidden, 104.4 on
    average. Where the view is `exact`, single patches make up the number.

    >>> import numpy as np
    >>> from diptych.batch import HiddenView
    >>> from diptych.data.block_mask import BlockMask
    >>> mask = BlockMask(HiddenView(side=16, count=105, exact=True))(np.random.default_rng(0))
    >>> mask.shape, int(mask.sum())
    ((256,), 105)
    """

    view: HiddenView

    def __call__(self, rng: np.random.Generator) -> Bool[np.ndarray, " patches"]:
        """True where a patch is hidden, in reading order; at least one is."""
        side, count = self.view.side, self.view.count
        hidden = np.zeros((side, side), dtype=bool)
        while (left := count - int(hidden.sum())) and self._lay(hidden, left, rng):
            pass
        flat = hidden.reshape(-1)
        missing = left if self.view.exact else int(not flat.any())
        free = np.flatnonzero(~flat)
        flat[rng.choice(free, missing, replace=False)] = True
        return flat

    def _lay(self, hidden: np.ndarray, left: int, rng: np.random.Generator) -> bool:
        """Hide one more rectangle, of at most `left` patches that aren't hidden yet; whether one
        was found."""
        side = len(hidden)
        for _ in range(_ATTEMPTS):
            # Where fewer than that are left the interval is upside down, as it was published.
            least = min(_LEAST, self.view.count)
            area = least + (left - least) * rng.random()
            ratio = math.exp(rng.uniform(math.log(_ASPECT), -math.log(_ASPECT)))
            height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if not (0 < height < side and 0 < width < side):
                continue
            top, start = rng.integers(side - height + 1), rng.integers(side - width + 1)
            block = hidden[top : top + height, start : start + width]
            if 0 < height * width - int(block.sum()) <= left:
                block[:] = True
                return True
        return False


@dataclass(frozen=True)
class AlternatingMask:
    """Every other patch, beginning with the first: the same for all pictures, for validation.

    >>> import numpy as np
    >>> from diptych.batch import HiddenView
    >>> from diptych.data.block_mask import AlternatingMask
    >>> AlternatingMask(HiddenView(side=2, count=1))(np.random.default_rng(0))
    array([ True, False,  True, False])
    """

    view: HiddenView

    def __call__(self, rng: np.random.Generator) -> Bool[np.ndarray, " patches"]:
        """As `BlockMask`; nothing is drawn."""
        return np.arange(self.view.side**2) % 2 == 0
