"""Changes of a trained model that keep what it has learned."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diptych.checkpoints.state import State
from diptych.config import ClipConfig, ResNetConfig, VitConfig
from diptych.errors import CheckpointError


def resize(state: State, config: ClipConfig, image_size: int) -> tuple[State, ClipConfig]:
    """The model for pictures of another size: the position table is interpolated, all else stays.

    Raises CheckpointError for a timm tower, which has its own way, and ConfigError for a size that doesn't fit.
    """
    match config.image:
        case VitConfig(patch_size=patch):
            name, cell, extra = "image.positions", patch, int(config.image.pool == "cls")
        case ResNetConfig():
            name, cell, extra = "image.pool.positions", 32, 1
        case _:
            raise CheckpointError("a timm tower can't be resized here; set image_size in its configuration")
    changed = replace(config, image=replace(config.image, image_size=image_size))
    return state.updated({name: resize_positions(state[name], image_size // cell, extra)}), changed


def resize_positions(positions: Float[Tensor, "old width"], side: int, extra: int = 1) -> Float[Tensor, "new width"]:
    """A learned table for a square of side x side patches, by anti-aliased bicubic interpolation as in open_clip; the
    first `extra` rows (the class token) are kept.

    >>> import torch
    >>> from diptych.checkpoints.surgery import resize_positions
    >>> resize_positions(torch.zeros(1 + 49, 8), side=14).shape
    torch.Size([197, 8])
    """
    first, grid = positions[:extra], positions[extra:]
    old = math.isqrt(len(grid))
    if old * old != len(grid):
        raise CheckpointError(f"{len(positions)} positions are not {extra} and a square of patches")
    if old == side:
        return positions
    plane = grid.float().T.reshape(1, -1, old, old)
    plane = F.interpolate(plane, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([first, plane.flatten(2)[0].T.to(positions.dtype)])
