"""The strong image view: a harder crop, then colour jitter, greyscale and blur, a batch at a time
on any device."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from diptych.config import AugmentConfig, StrongConfig
from diptych.inputs.augment import TrainCrop
from diptych.inputs.resize import Interpolation

ORDERS = tuple(itertools.permutations(range(4)))
"""In which brightness, contrast, saturation and hue change."""
LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a grey level (ITU-R BT.601), as torchvision rounds them."""


@dataclass(frozen=True)
class StrongView:
    """Random crop and flip of one picture, colour jitter, greyscale and blur of a batch of crops
    (SimCLR, Chen et al. 2020, arXiv:2002.05709, appendix A, with the numbers of `StrongConfig`).

    What a crop's colours become is drawn beside it and applied later: here or on a faster device,
    with the same result.

    >>> import numpy as np, torch
    >>> from diptych.config import StrongConfig
    >>> from diptych.inputs.strong import StrongView
    >>> view, rng = StrongView(StrongConfig(), 32), np.random.default_rng(0)
    >>> crop = view.crop(torch.zeros(3, 60, 80, dtype=torch.uint8), rng)
    >>> view.apply(crop[None], view.draw(rng)[None]).shape
    torch.Size([1, 3, 32, 32])
    """

    config: StrongConfig
    size: int
    interpolation: Interpolation = "bicubic"

    @cached_property
    def crop(self) -> TrainCrop:
        """The crop: (picture, generator) -> UInt8[3, size, size]."""
        geometry = AugmentConfig(
            scale=self.config.scale, ratio=self.config.ratio, flip=self.config.flip
        )
        return TrainCrop(geometry, self.size, self.interpolation)

    def draw(self, rng: np.random.Generator) -> Float[Tensor, "7"]:
        """What happens to one crop: factors of brightness, contrast and saturation, a turn of the
        hue, the number of their order or -1 for no change, 1 for grey, the blur's sigma or 0. The
        same `rng` state gives the same."""
        c = self.config
        factors = [
            rng.uniform(1 - most, 1 + most) for most in (c.brightness, c.contrast, c.saturation)
        ]
        hue, order = rng.uniform(-c.hue, c.hue), int(rng.integers(len(ORDERS)))
        jitter, grey, blur = (rng.random(3) < (c.jitter, c.grey, c.blur)).tolist()
        sigma = rng.uniform(*c.blur_sigma)
        return torch.tensor(
            [*factors, hue, order if jitter else -1, float(grey), sigma if blur else 0.0]
        )

    def apply(
        self, crops: UInt8[Tensor, "batch 3 height width"], drawn: Float[Tensor, "batch 7"]
    ) -> UInt8[Tensor, "batch 3 height width"]:
        """The crops as `drawn` says, on their device."""
        x = crops / 255
        # Each crop has its own order of the four changes: at each place of the order, the crops
        # whose turn it is for a change get it together. Order -1 is in no list: no change.
        for place in range(4):
            for column, function in enumerate((_brightness, _contrast, _saturation, _hue)):
                numbers = [number for number, order in enumerate(ORDERS) if order[place] == column]
                rows = torch.isin(
                    drawn[:, 4], torch.tensor(numbers, device=drawn.device, dtype=drawn.dtype)
                )
                _change(x, rows, partial(function, strength=drawn[rows, column].view(-1, 1, 1, 1)))
        _change(x, drawn[:, 5] > 0, lambda part: _grey(part).expand_as(part))
        blurred = drawn[:, 6] > 0
        _change(
            x,
            blurred,
            lambda part: gaussian_blur(part, drawn[blurred, 6], self.config.blur_sigma[1]),
        )
        return (x * 255).round_().clamp_(0, 255).to(torch.uint8)


def _change(x: Tensor, rows: Tensor, function: Callable[[Tensor], Tensor]) -> None:
    """Replace the chosen rows of `x` by what `function` makes of them."""
    if rows.any():
        x[rows] = function(x[rows])


def _grey(x: Tensor) -> Tensor:
    return torch.einsum("bchw,c->bhw", x, x.new_tensor(LUMA))[:, None]


def _brightness(x: Tensor, strength: Tensor) -> Tensor:
    return (x * strength).clamp_(0, 1)


def _contrast(x: Tensor, strength: Tensor) -> Tensor:
    """Away from, or towards, the mean grey level."""
    return torch.lerp(_grey(x).mean((2, 3), keepdim=True), x, strength).clamp_(0, 1)


def _saturation(x: Tensor, strength: Tensor) -> Tensor:
    """Away from, or towards, the pixel's grey level."""
    return torch.lerp(_grey(x).expand_as(x), x, strength).clamp_(0, 1)


def _hue(x: Tensor, strength: Tensor) -> Tensor:
    """The hue of HSV turned by a share of the circle; value and saturation stay.

    A channel of a colour of hue h (0-6), value v and chroma c is v - c * clamp(min(k, 4 - k), 0,
    1), k = (n + h) mod 6, with n = 5 for red, 3 for green, 1 for blue.
    """
    # The hue in sixths of the circle: 0, 2 and 4 where red, green and blue are the brightest, and
    # from there by the difference of the two others, as a share of the chroma, to either side.
    value, brightest = x.max(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    red, green, blue = x.split(1, dim=1)
    difference = torch.cat([green - blue, blue - red, red - green], dim=1).gather(1, brightest)
    hue = difference / chroma.clamp(min=1e-8) + 2 * brightest + 6 * strength
    k = (hue + x.new_tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1)) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1)


def gaussian_blur(
    x: Float[Tensor, "batch channels height width"], sigma: Float[Tensor, " batch"], largest: float
) -> Float[Tensor, "batch channels height width"]:
    """Each row blurred with its own standard deviation, at most `largest` pixels; edges are
    mirrored.

    >>> import torch
    >>> from diptych.inputs.strong import gaussian_blur
    >>> dot = torch.zeros(1, 1, 5, 5)
    >>> dot[0, 0, 2, 2] = 1.0
    >>> blurred = gaussian_blur(dot, torch.tensor([0.5]), 0.5)
    >>> [round(value, 3) for value in blurred[0, 0, 2].tolist()]
    [0.0, 0.084, 0.619, 0.084, 0.0]
    """
    batch, channels, height, width = x.shape
    # Beyond four standard deviations lie 6e-5 of the weight; a mirror can't be wider than the crop.
    radius = min(int(np.ceil(4 * largest)), height - 1, width - 1)
    places = torch.arange(-radius, radius + 1, device=x.device)
    # The softmax of -x^2 / 2 sigma^2 is the Gaussian divided by its sum over the places.
    weights = torch.softmax(-0.5 * (places / sigma[:, None]) ** 2, dim=1).repeat_interleave(
        channels, dim=0
    )
    x = F.pad(x, (radius,) * 4, mode="reflect").flatten(0, 1)[None]
    # A group for each channel of each crop has weights of its own; the Gaussian is separable, so
    # it runs along the rows and then along the columns.
    x = F.conv2d(x, weights[:, None, None], groups=batch * channels)
    return F.conv2d(x, weights[:, None, :, None], groups=batch * channels).view(
        batch, channels, height, width
    )
