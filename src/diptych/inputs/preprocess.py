"""From any picture to the image tower's input, in evaluation."""

import functools
from dataclasses import dataclass
from typing import assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from diptych.config import PreprocessConfig
from diptych.inputs.images import decode
from diptych.inputs.native import fit, pack
from diptych.inputs.picture import Picture
from diptych.inputs.resize import resize, resize_shortest_and_crop
from diptych.inputs.room import room


@dataclass(frozen=True)
class Preprocess:
    """Decode, resize to a square of `size` pixels, normalise. Can be pickled and shared by threads.
    Where `config.resize` is `native`, the result is a column of patches instead, [3, patches p + 1,
    p], whose last row holds its grid (`inputs.native`).

    Equal to torchvision's Pillow pipeline (Resize, CenterCrop, ToTensor, Normalize) within 1 grey
    level, 2 in a few of a million values; what can't be decoded raises ImageError.

    >>> from PIL import Image
    >>> from diptych.config import PreprocessConfig
    >>> from diptych.inputs import Preprocess
    >>> preprocess = Preprocess(PreprocessConfig(), 224)
    >>> preprocess(Image.new("RGB", (640, 480))).shape
    torch.Size([3, 224, 224])
    """

    config: PreprocessConfig
    size: int

    @property
    def height(self) -> int:
        """Rows of pixels of the result."""
        native = self.config.resize == "native"
        return self.config.patches * self.config.patch_size + 1 if native else self.size

    @property
    def wide(self) -> int:
        """Pixels of a row of the result."""
        return self.config.patch_size if self.config.resize == "native" else self.size

    def __call__(self, picture: Picture) -> Float[Tensor, "3 {self.height} {self.wide}"]:
        """The normalised picture."""
        return self.normalise(self.pixels(picture)[None])[0]

    def pixels(self, picture: Picture) -> UInt8[Tensor, "3 {self.height} {self.wide}"]:
        """The square as levels: a quarter of the bytes of the normalised one, to be moved between
        processes."""
        levels = self.seen(picture)
        if self.config.resize == "native":
            return pack(levels, self.config.patch_size, self.config.patches)
        return levels

    def seen(self, picture: Picture) -> UInt8[Tensor, "3 _ _"]:
        """What the tower sees, to be looked at: the square, or where `resize` is `native` the whole
        picture, in whole patches."""
        with room.held():
            return self._resized(decode(picture))

    def _resized(self, levels: Tensor) -> Tensor:
        size, interpolation = self.size, self.config.interpolation
        match self.config.resize:
            case "shortest":
                shortest = int(size / self.config.crop_share)
                levels = resize_shortest_and_crop(levels, shortest, size, interpolation)
            case "squash":
                levels = resize(levels, (size, size), interpolation)
            case "longest":
                # The whole picture, with margins: nothing is cropped, the ratio of the sides stays.
                longest = max(levels.shape[1:])
                height, width = (max(1, round(side * size / longest)) for side in levels.shape[1:])
                levels = resize(levels, (height, width), interpolation)
                left, top = (size - width) // 2, (size - height) // 2
                margins = (left, size - width - left, top, size - height - top)
                levels = F.pad(levels, margins, value=self.config.fill)
            case "native":
                how = self.config
                levels = fit(levels, how.patch_size, how.patches, interpolation)
            case _:
                assert_never(self.config.resize)
        return levels.contiguous()

    def normalise(
        self, pixels: UInt8[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """(levels / 255 - mean) / std, on the device of `pixels`."""
        scale, shift = self.scale_and_shift(pixels.device)
        normal = pixels.float().mul_(scale).add_(shift)
        if self.config.resize == "native":
            normal[..., -1, :] = pixels[..., -1, :]  # the grid: no levels
        return normal

    def scale_and_shift(self, device: torch.device) -> Float[Tensor, "2 3 1 1"]:
        """By what `normalise` multiplies levels, and what it adds; not to be written into."""
        return _scale_and_shift(*self.config.mean, *self.config.std, device=device)


@functools.cache
@torch.inference_mode(mode=False)
def _scale_and_shift(*normal: float, device: torch.device) -> Float[Tensor, "2 3 1 1"]:
    """(levels / 255 - mean) / std = levels * scale + shift: one multiplication and one addition.
    They stay on the device: a copy there in every step would wait for it."""
    means, deviations = normal[:3], normal[3:]
    scale = [1 / (255 * std) for std in deviations]
    shift = [-mean / std for mean, std in zip(means, deviations, strict=True)]
    return torch.tensor([scale, shift], device=device).view(2, 3, 1, 1)
