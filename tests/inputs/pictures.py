"""Pictures that look like photographs to a resize filter: gradients, edges, texture, saturated
parts."""

import io

import numpy as np
from PIL import Image


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB picture, made of smooth waves, hard-edged boxes and grain."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    levels = np.empty((height, width, 3))
    for channel in range(3):
        waves = rng.uniform(0.002, 0.15, 4)
        levels[..., channel] = (
            128
            + 60 * np.sin(waves[0] * rows + waves[1] * columns)
            + 40 * np.cos(waves[2] * columns)
        )
    for _ in range(6):
        top, left = rng.integers(0, max(1, height - 1)), rng.integers(0, max(1, width - 1))
        levels[top : top + height // 4 + 1, left : left + width // 4 + 1] = rng.integers(0, 256, 3)
    levels += rng.normal(0, 4, levels.shape)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """The file of `image` as `kind` (JPEG, PNG, ...)."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
