"""Changes of a trained model that keep what it has learned."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diptych.checkpoints.state import State
from diptych.config import (
    ClipConfig,
    EvaConfig,
    ImageTowerConfig,
    ResNetConfig,
    UniRepLKNetConfig,
    VitConfig,
)
from diptych.errors import CheckpointError


def resize(
    state: State, config: ClipConfig, image_size: int | None = None, patch_size: int | None = None
) -> tuple[State, ClipConfig]:
    """The model for pictures or patches of another size, in pixels: the position table and the
    patches' kernel are interpolated, all else stays. None: as it is.

    Raises CheckpointError for a tower that has no such size, and ConfigError for sizes that don't
    fit."""
    image, changed = resize_tower(state.part("image."), config.image, image_size, patch_size)
    return state.replaced("image.", image), replace(config, image=changed)


def resize_tower(
    state: State,
    config: ImageTowerConfig,
    image_size: int | None = None,
    patch_size: int | None = None,
) -> tuple[State, ImageTowerConfig]:
    """As `resize`, of an image tower alone."""
    asked = {"image_size": image_size, "patch_size": patch_size}
    asked = {name: size for name, size in asked.items() if size is not None}
    if not asked:
        return state, config
    if "patch_size" in asked and not isinstance(config, VitConfig | EvaConfig):
        raise CheckpointError(f"a {type(config).__name__} has no patches that could be resized")
    changed = replace(config, **asked)
    return fit_grid(state, changed), changed


def fit_grid(state: State, config: ImageTowerConfig) -> State:
    """A tower's weights, its position table and its patches' kernel as large as `config` wants
    them.

    Raises CheckpointError for a timm tower, which has its own way, and for a table that is no
    square."""
    grid = _grid(config)
    changed = {}
    if grid.positions in state:
        table = state[grid.positions]
        changed[grid.positions] = resize_positions(table, grid.side, grid.extra, grid.antialias)
    if grid.patch_size and "patch.weight" in state:
        changed["patch.weight"] = resize_kernel(state["patch.weight"], grid.patch_size)
    return state.updated(changed)


class _Grid(NamedTuple):
    """What of a tower depends on the sizes of its pictures and patches."""

    positions: str = ""
    """Name of the position table."""
    side: int = 0
    """Of the square of patches."""
    extra: int = 0
    """Rows of the table before the patches'."""
    antialias: bool = True
    """open_clip's way; EVA's published files were made without."""
    patch_size: int = 0
    """0: there is no kernel of that size."""


def _grid(config: ImageTowerConfig) -> _Grid:
    match config:
        case EvaConfig(image_size=size, patch_size=patch):
            return _Grid("positions", size // patch, 1, antialias=False, patch_size=patch)
        case VitConfig(image_size=size, patch_size=patch, pool=pool, stem_widths=stem):
            return _Grid(
                "positions", size // patch, int(pool == "cls"), patch_size=0 if stem else patch
            )
        case ResNetConfig(image_size=size):
            return _Grid("pool.positions", size // 32, 1)
        case UniRepLKNetConfig():
            return _Grid()  # it takes pictures of any size
        case _:
            raise CheckpointError(
                "a timm tower can't be resized here; set image_size in its configuration"
            )


def resize_positions(
    positions: Float[Tensor, "old width"], side: int, extra: int = 1, antialias: bool = True
) -> Float[Tensor, "new width"]:
    """A learned table for a square of side x side patches, by bicubic interpolation in float32; the
    first `extra` rows (the class token) are kept. `antialias` as open_clip has it; EVA
    (github.com/baaivision/EVA) does without.

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
    plane = _bicubic(grid.T.reshape(1, -1, old, old), side, antialias)
    return torch.cat([first, plane.flatten(2)[0].T])


def resize_kernel(
    kernel: Float[Tensor, "width channels old old"], size: int
) -> Float[Tensor, "width channels size size"]:
    """The patches' kernel for patches of `size` pixels, by bicubic interpolation in float32, as EVA
    makes 16 of 14.

    >>> import torch
    >>> from diptych.checkpoints.surgery import resize_kernel
    >>> resize_kernel(torch.zeros(8, 3, 14, 14), 16).shape
    torch.Size([8, 3, 16, 16])
    """
    return kernel if kernel.shape[-1] == size else _bicubic(kernel, size, antialias=False)


def _bicubic(planes: Tensor, side: int, antialias: bool) -> Tensor:
    larger = F.interpolate(
        planes.float(), size=(side, side), mode="bicubic", antialias=antialias, align_corners=False
    )
    return larger.to(planes.dtype)
