"""Pictures made up on the fly, for benchmarks and first tries: nothing to download, nothing on
disk."""

import itertools
from typing import Literal, assert_never, get_args

import numpy as np
import simplejpeg

from diptych.batch import Sample
from diptych.config import DataConfig
from diptych.data.source import Captioner, Source

_SIDE = 256
_COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 70, 210),
    "yellow": (230, 210, 50),
    "purple": (140, 60, 170),
    "white": (240, 240, 240),
}
_Shape = Literal["circle", "square", "ring", "cross"]
_SHAPES: tuple[_Shape, ...] = get_args(_Shape)


def _mask(shape: _Shape, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """The shape's pixels, in coordinates where it spans -1..1."""
    match shape:
        case "circle":
            return np.hypot(across, down) < 1
        case "ring":
            distance = np.hypot(across, down)
            return (distance < 1) & (distance > 0.6)
        case "square":
            return np.maximum(abs(across), abs(down)) < 0.9
        case "cross":
            return (np.minimum(abs(across), abs(down)) < 0.3) & (
                np.maximum(abs(across), abs(down)) < 1
            )
        case _:
            assert_never(shape)


def _draw(
    pixels: np.ndarray,
    shape: _Shape,
    colour: tuple[int, int, int],
    centre: np.ndarray,
    radius: float,
) -> None:
    """A shape, `centre` being (across, down). Only its own square is looked at: a third of the
    picture."""
    left, top = (centre - radius).astype(int)
    length = int(2 * radius) + 2
    square = pixels[top : top + length, left : left + length]
    down, across = (np.arange(side) for side in square.shape[:2])
    mask = _mask(
        shape,
        (across[None] + left - centre[0]) / radius,
        (down[:, None] + top - centre[1]) / radius,
    )
    square[mask] = colour


class Synthetic(Source):
    """`count` pictures of 256 x 256 pixels: a coloured shape on a noisy ground, and a caption that
    says so."""

    def __init__(self, count: int, captioner: Captioner):
        self._count = count
        self._templates = captioner.templates or DataConfig().templates
        self.class_names = tuple(map(" ".join, itertools.product(_COLOURS, _SHAPES)))

    def __len__(self) -> int:
        return self._count

    def where(self, index: int) -> tuple[str, str]:
        return "synthetic", str(index)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        label = int(rng.integers(len(self.class_names)))
        # The names are all colours times all shapes, shapes last.
        colour, shape = (*_COLOURS,)[label // len(_SHAPES)], _SHAPES[label % len(_SHAPES)]
        radius = rng.uniform(0.15, 0.4) * _SIDE
        centre = rng.uniform(radius, _SIDE - radius, 2)
        pixels = rng.integers(90, 140, (_SIDE // 8, _SIDE // 8, 3), np.uint8)
        pixels = pixels.repeat(8, 0).repeat(8, 1)
        _draw(pixels, shape, _COLOURS[colour], centre, radius)
        return Sample(
            key=str(index),
            image=simplejpeg.encode_jpeg(pixels, quality=90),
            captions=tuple(
                template.replace("{}", self.class_names[label]) for template in self._templates
            ),
            label=label,
        )

    def describe(self) -> str:
        return f"{self._count:,} synthetic pictures"
