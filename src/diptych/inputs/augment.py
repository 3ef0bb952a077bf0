"""The training crop: random, and a function of its random generator alone."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from diptych.config import AugmentConfig, PreprocessConfig
from diptych.inputs.native import fit, pack
from diptych.inputs.resize import Interpolation, resize

ATTEMPTS = 10
"""Boxes that are drawn before the central one is taken: as in torchvision."""


@dataclass(frozen=True)
class TrainCrop:
    """Random resized crop (Szegedy et al. 2014, arXiv:1409.4842 §6), then flip, shift and noise
    where the config asks.

    >>> import numpy as np, torch
    >>> from diptych.config import AugmentConfig
    >>> from diptych.inputs import TrainCrop
    >>> crop = TrainCrop(AugmentConfig(), 32)
    >>> crop(torch.zeros(3, 60, 80, dtype=torch.uint8), np.random.default_rng(0)).shape
    torch.Size([3, 32, 32])
    """

    config: AugmentConfig
    size: int
    interpolation: Interpolation = "bicubic"
    own_aspect: bool = False
    """Whether the crop's ratio is relative to that of the picture."""

    def __call__(
        self, pixels: UInt8[Tensor, "3 height width"], rng: np.random.Generator
    ) -> UInt8[Tensor, "3 {self.size} {self.size}"]:
        """The same `rng` state gives the same crop."""
        return self._augmented(pixels, rng).contiguous()

    @property
    def bytes(self) -> int:
        """Of what it makes."""
        return 3 * self.size**2

    def _augmented(
        self, pixels: UInt8[Tensor, "3 height width"], rng: np.random.Generator
    ) -> UInt8[Tensor, "3 _ _"]:
        config = self.config
        top, left, height, width = self.box(pixels.shape[1], pixels.shape[2], rng)
        crop = self._resized(pixels[:, top : top + height, left : left + width])
        if config.flip and rng.random() < config.flip:
            crop = crop.flip(2)
        if config.shift:
            down, right = rng.integers(-config.shift, config.shift + 1, size=2).tolist()
            # What moves in from outside is the edge, repeated.
            crop = crop[:, _moved(crop.shape[1], down)][:, :, _moved(crop.shape[2], right)]
        if config.noise:
            noise = rng.standard_normal(crop.shape, dtype=np.float32) * config.noise
            crop = (crop + torch.from_numpy(noise)).round_().clamp_(0, 255).to(torch.uint8)
        return crop

    def _resized(self, crop: UInt8[Tensor, "3 height width"]) -> UInt8[Tensor, "3 _ _"]:
        return resize(crop, (self.size, self.size), self.interpolation)

    def numbered(self, index: int, number: int) -> np.random.Generator:
        """What crop `number` of a source's picture `index` is drawn with, in whatever run."""
        return np.random.default_rng((self.config.seed, index, number))

    def box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """(top, left, height, width) of a crop: its share of the area uniform in `scale`, the
        logarithm of its width / height uniform in `ratio`; when ten such don't fit, the largest
        central one with an allowed ratio."""
        own = width / height if self.own_aspect else 1.0
        low, high = (own * end for end in self.config.ratio)
        for _ in range(ATTEMPTS):
            area = height * width * rng.uniform(*self.config.scale)
            # The logarithm is uniform, so that upright and lying boxes (ratio r and 1 / r) are
            # equally likely.
            ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
            # width * height = area and width / height = ratio, solved for the two.
            crop_height, crop_width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < crop_height <= height and 0 < crop_width <= width:
                top = int(rng.integers(height - crop_height + 1))
                left = int(rng.integers(width - crop_width + 1))
                return top, left, crop_height, crop_width
        # The picture is too long or too flat for its boxes: its own ratio, as far as it is allowed.
        ratio = min(max(width / height, low), high)
        crop_height = max(1, min(height, round(width / ratio)))
        crop_width = max(1, min(width, round(height * ratio)))
        return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


@dataclass(frozen=True)
class NativeCrop(TrainCrop):
    """The same for a picture that keeps its aspect: what is cropped becomes a column of patches
    (`inputs.native`), as many as `patches` allow.

    >>> import numpy as np, torch
    >>> from diptych.config import AugmentConfig
    >>> from diptych.inputs.augment import NativeCrop
    >>> crop = NativeCrop(AugmentConfig(), 32, own_aspect=True, patches=20, patch_size=8)
    >>> crop(torch.zeros(3, 60, 80, dtype=torch.uint8), np.random.default_rng(0)).shape
    torch.Size([3, 161, 8])
    """

    patches: int = 256
    patch_size: int = 16

    def __call__(
        self, pixels: UInt8[Tensor, "3 height width"], rng: np.random.Generator
    ) -> UInt8[Tensor, "3 rows {self.patch_size}"]:
        """As `TrainCrop`. The crop is the same whatever the budget, which is how much is seen of
        it."""
        return pack(self._augmented(pixels, rng), self.patch_size, self.patches)

    @property
    def bytes(self) -> int:
        """Of what it makes."""
        return 3 * (self.patches * self.patch_size + 1) * self.patch_size

    def _resized(self, crop: UInt8[Tensor, "3 height width"]) -> UInt8[Tensor, "3 _ _"]:
        return fit(crop, self.patch_size, self.patches, self.interpolation)


def crop_of(config: AugmentConfig, how: PreprocessConfig, size: int) -> TrainCrop:
    """The training crop of pictures that become, in evaluation, what `how` says: squares of `size`
    pixels, or patches.

    >>> from diptych.config import AugmentConfig, PreprocessConfig
    >>> from diptych.inputs.augment import crop_of
    >>> crop_of(AugmentConfig(), PreprocessConfig(resize="native", patches=20), 32).patches
    20
    """
    if how.resize != "native":
        return TrainCrop(config, size, how.interpolation)
    return NativeCrop(
        config=config,
        size=size,
        interpolation=how.interpolation,
        own_aspect=True,
        patches=how.patches,
        patch_size=how.patch_size,
    )


def _moved(side: int, by: int) -> Tensor:
    """From which places along a side those come that are moved."""
    return (torch.arange(side) - by).clamp(0, side - 1)
