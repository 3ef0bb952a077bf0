"""What a function from pictures to pixels does, told by its output: any code's, also code that
says nothing of itself."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from diptych.diagnosis.probes import pictures
from diptych.inputs.resize import resize

_PILLOW = {"nearest": Image.Resampling.NEAREST, "lanczos": Image.Resampling.LANCZOS}
_ROUGH = {"bicubic, not antialiased": "bicubic", "bilinear, not antialiased": "bilinear"}
FILTERS = ("bicubic", "bilinear", *_PILLOW, *_ROUGH)
"""Ways to interpolate that are told apart; the first two antialiased, as Pillow does it."""
_SHARES = {"shortest": 1.0, "shortest, 0.875 of it": 0.875, "shortest, 0.9 of it": 0.9}
RESIZES = (*_SHARES, "squash", "longest")
"""Ways to a square that are told apart: the shorter side to the size (or the size to that share of
it) and a central crop; both sides to the size; the longer side, and margins."""
_ALIKE = 1.0
"""Grey levels, in the mean, up to which a way is taken for the one."""
_EQUAL = 0.01
"""Grey levels, in the mean, up to which no other way need be tried: rounding alone."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """How pictures become pixels.

    >>> from diptych.config import PreprocessConfig
    >>> from diptych.diagnosis.pixels import measure
    >>> from diptych.inputs import Preprocess
    >>> found = measure(Preprocess(PreprocessConfig(resize="squash"), 48))
    >>> found.size, found.resize, found.interpolation, found.known
    (48, 'squash', 'bicubic', True)
    """

    size: int
    """Side of the square, in pixels; of what is no square, the height."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str
    """One of `RESIZES`."""
    interpolation: str
    """One of `FILTERS`."""
    fill: int = 0
    """Grey level of the margins."""
    off: float = 0.0
    """By how many grey levels, in the mean, `render` differs from what was measured."""

    @property
    def known(self) -> bool:
        """Whether it is one of the ways that are told apart."""
        return self.off < _ALIKE

    def render(self, picture: Image.Image) -> Float[Tensor, "3 size size"]:
        """The pixels of a picture."""
        levels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
        return self._normal(_square(levels, self).float())

    def _normal(self, levels: Tensor) -> Tensor:
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.mean, self.std))
        return (levels / 255 - mean) / std

    def levels(self, pixels: Float[Tensor, "*many 3 height width"]) -> Tensor:
        """The grey levels that `pixels` were made of."""
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.mean, self.std))
        return (pixels.float() * std + mean) * 255


def measure(pixels: Callable[[Image.Image], Tensor]) -> Pixels:
    """What `pixels` does, by a black, a white and two other pictures."""
    black, white = (pixels(Image.new("RGB", (64, 64), grey)).float() for grey in ("black", "white"))
    # black = (0 - mean) / std and white = (1 - mean) / std: two equations for two numbers.
    std = 1 / (white - black).mean((1, 2))
    mean = -black.mean((1, 2)) * std
    lying, upright, *_ = pictures()
    found = Pixels(
        size=black.shape[1],
        mean=tuple(round(number, 6) for number in mean.tolist()),
        std=tuple(round(number, 6) for number in std.tolist()),
        resize="shortest",
        interpolation="bicubic",
    )
    wanted = [found.levels(pixels(picture)) for picture in (lying, upright)]
    fill = int(wanted[0][0, 0, 0].round().clamp(0, 255))
    tried = list[Pixels]()
    for resizing, way in itertools.product(RESIZES, FILTERS):
        margin = fill if resizing == "longest" else 0
        each = replace(found, resize=resizing, interpolation=way, fill=margin)
        off = (_distance(each, *pair) for pair in zip((lying, upright), wanted, strict=True))
        tried.append(replace(each, off=max(off)))
        if tried[-1].off < _EQUAL:
            break  # most code does one of the first ways
    return min(tried, key=lambda each: each.off)


def _distance(tried: Pixels, picture: Image.Image, levels: Tensor) -> float:
    rendered = tried.levels(tried.render(picture))
    if rendered.shape != levels.shape:
        return 255.0
    return float((rendered - levels).abs().mean())


def _square(levels: UInt8[Tensor, "3 height width"], how: Pixels) -> Tensor:
    height, width = levels.shape[1:]
    size = how.size
    if how.resize == "squash":
        return _resized(levels, size, size, how.interpolation)
    if how.resize == "longest":
        long = max(height, width)
        high, wide = (max(1, round(side * size / long)) for side in (height, width))
        left, top = (size - wide) // 2, (size - high) // 2
        margins = (left, size - wide - left, top, size - high - top)
        return F.pad(_resized(levels, high, wide, how.interpolation), margins, value=how.fill)
    shortest, short = int(size / _SHARES[how.resize]), min(height, width)
    high, wide = int(shortest * height / short), int(shortest * width / short)
    top, left = round((high - size) / 2), round((wide - size) / 2)
    resized = _resized(levels, high, wide, how.interpolation)
    return resized[:, top : top + size, left : left + size]


def _resized(levels: UInt8[Tensor, "3 height width"], high: int, wide: int, way: str) -> Tensor:
    if way in _PILLOW:
        picture = Image.fromarray(levels.permute(1, 2, 0).numpy())
        picture = picture.resize((wide, high), _PILLOW[way])
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    if way in _ROUGH:
        size = (high, wide)
        plain = F.interpolate(levels[None].float(), size, mode=_ROUGH[way], align_corners=False)
        return plain[0].round().clamp(0, 255).to(torch.uint8)
    return resize(levels, (high, wide), "bicubic" if way == "bicubic" else "bilinear")
