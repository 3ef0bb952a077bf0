"""A transform, and its steps, as open_clip's callers read and replace them: torchvision's, and what
that hasn't. All take Pillow pictures, and most of them tensors."""

# torchvision says no types of its own.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownArgumentType=false

import random
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import (
    CenterCrop,
    ColorJitter,
    Compose,
    Grayscale,
    InterpolationMode,
    Normalize,
    Resize,
    ToTensor,
)
from torchvision.transforms import functional as F

from diptych.config import PreprocessConfig
from diptych.inputs import Picture, Preprocess, decode

Size = int | Sequence[int]


class Transform(Compose):
    """A picture to a tensor, in steps that can be read, indexed, edited and replaced:
    `transforms`.

    As long as they are as they were made, `fused` does them all in one: as fast as Diptych's own,
    from any form of a picture, which is upright (see `diptych.inputs.images`). Else they are done
    one by one, of the Pillow picture.

    >>> from PIL import Image
    >>> from diptych import compat
    >>> preprocess = compat.image_transform(224, is_train=False)
    >>> preprocess(Image.new("RGB", (640, 480))).shape
    torch.Size([3, 224, 224])
    >>> preprocess.transforms[0]
    Resize(size=224, interpolation=bicubic, max_size=None, antialias=True)
    """

    def __init__(self, transforms: Sequence[Any], fused: Callable[[Picture], Tensor] | None = None):
        super().__init__(list(transforms))
        self.fused = fused
        self._made = repr(self.transforms)

    def __call__(self, img: Picture) -> Any:
        """The tensor; what edited steps make of the picture."""
        floating = isinstance(img, Tensor) and img.is_floating_point()
        if self.fused and not floating and repr(self.transforms) == self._made:
            return self.fused(img)
        if not isinstance(img, Image.Image | Tensor):
            img = Image.fromarray(decode(img).permute(1, 2, 0).numpy())
        for step in self.transforms:
            img = step(img)
        return img


class ResizeKeepRatio:
    """Both sides by one factor: the longer one to its `size` (`longest` 1), or the shorter one
    (0)."""

    def __init__(
        self,
        size: Size,
        longest: float = 0.0,
        interpolation: InterpolationMode = InterpolationMode.BICUBIC,
    ):
        self.size = sides(size)
        self.longest = float(longest)
        self.interpolation = interpolation

    def __call__(self, img: Any) -> Any:
        """The resized picture."""
        _, *old = F.get_dimensions(img)
        by_side = [here / there for here, there in zip(old, self.size, strict=True)]
        factor = max(by_side) * self.longest + min(by_side) * (1 - self.longest)
        return F.resize(img, [max(1, round(side / factor)) for side in old], self.interpolation)

    def __repr__(self) -> str:
        return (
            f"ResizeKeepRatio(size={self.size}, longest={self.longest}, "
            f"interpolation={self.interpolation.value})"
        )


class CenterCropOrPad(nn.Module):
    """The middle of a picture, with margins of the grey level `fill` where it is smaller."""

    def __init__(self, size: Size, fill: int = 0):
        super().__init__()
        self.size = sides(size)
        self.fill = fill

    def forward(self, img: Any) -> Any:
        """The crop."""
        _, height, width = F.get_dimensions(img)
        lacking = [max(0, there - here) for there, here in zip(self.size, (height, width))]
        if any(lacking):
            top, left = (missing // 2 for missing in lacking)
            margins = [left, top, lacking[1] - left, lacking[0] - top]
            img = F.pad(img, margins, fill=self.fill)
        return F.center_crop(img, list(self.size))

    def __repr__(self) -> str:
        return f"CenterCropOrPad(size={self.size}, fill={self.fill})"


def center_crop_or_pad(img: Any, output_size: Size, fill: int = 0) -> Any:
    """`CenterCropOrPad` of one picture."""
    return CenterCropOrPad(output_size, fill)(img)


class color_jitter:
    """torchvision's `ColorJitter` of a share `p` of pictures; Python's `random` draws which, as in
    open_clip."""

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        p: float = 0.8,
    ):
        self.p = p
        self.transf = ColorJitter(brightness, contrast, saturation, hue)

    def __call__(self, img: Any) -> Any:
        """The picture, changed or not."""
        return self.transf(img) if random.random() < self.p else img


class gray_scale:
    """Grey levels of a share `p` of pictures, in three channels; Python's `random` draws which."""

    def __init__(self, p: float = 0.2):
        self.p = p
        self.transf = Grayscale(3)

    def __call__(self, img: Any) -> Any:
        """The picture, changed or not."""
        return self.transf(img) if random.random() < self.p else img


class MaybeConvertMode:
    """RGB of a Pillow picture; others are left alone."""

    def __init__(self, mode: str = "RGB"):
        self.mode = mode

    def __call__(self, pic: Any) -> Any:
        """The same picture."""
        return pic.convert(self.mode) if isinstance(pic, Image.Image) else pic

    def __repr__(self) -> str:
        return f"MaybeConvertMode(mode={self.mode!r})"


class MaybeToTensor(ToTensor):
    """[3, height, width] from 0 to 1 of a Pillow picture or an array; tensors are left alone."""

    def __call__(self, pic: Any) -> Tensor:
        """The tensor."""
        return pic if isinstance(pic, Tensor) else super().__call__(pic)

    def __repr__(self) -> str:
        return "MaybeToTensor()"


def in_evaluation(config: PreprocessConfig, size: Size) -> list[Any]:
    """Of a model's transform: to `size` = (height, width), or a square."""
    (height, width), how = sides(size), interpolation_of(config.interpolation)
    match config.resize:
        case "longest":
            resizing = [
                ResizeKeepRatio((height, width), 1.0, how),
                CenterCropOrPad((height, width), config.fill),
            ]
        case "squash":
            resizing = [Resize((height, width), how)]
        case "shortest" if height == width:
            shortest = int(height / config.crop_share)
            resizing = [Resize(shortest, how), CenterCrop((height, width))]
        case "shortest":
            resizing = [
                ResizeKeepRatio((height, width), interpolation=how),
                CenterCrop((height, width)),
            ]
        case "native":
            return [Preprocess(config, height)]  # to numbers, too
    return [*resizing, *to_numbers(config)]


def to_numbers(config: PreprocessConfig) -> list[Any]:
    """The end of each transform: RGB, a tensor, normalised."""
    return [MaybeConvertMode(), MaybeToTensor(), Normalize(config.mean, config.std)]


def interpolation_of(name: str) -> InterpolationMode:
    """torchvision's, of `bicubic` or `bilinear`."""
    return InterpolationMode(name)


def sides(size: Size) -> tuple[int, int]:
    """(height, width), of both or of a square's."""
    both = (size, size) if isinstance(size, int) else tuple(size)
    return (both[0], both[-1])
