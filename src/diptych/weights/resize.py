"""Towers for pictures and patches of another size: position tables and kernels interpolated."""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diptych.errors import CheckpointError
from diptych.weights.state import State

Filter = Literal["bicubic", "bilinear"]


class Grid(NamedTuple):
    """What of a tower's weights depends on the sizes of its pictures and patches."""

    positions: str
    """Name of the position table."""
    side: int
    """Of the square of patches."""
    extra: int
    """Rows of the table before the patches'."""
    antialias: bool = True
    """open_clip's way; EVA's published files were made without."""
    patch_size: int = 0
    """Pixels along a patch; 0: there is no kernel of that size."""
    filter: Filter = "bicubic"
    """By which the table is interpolated."""


def resize_grid(state: State, grid: Grid) -> State:
    """A tower's weights, its position table and its patches' kernel as large as `grid` says.

    Raises CheckpointError for a table that is no square, and for what is no table or no kernel.
    """
    changed: dict[str, Tensor] = {}
    if grid.positions in state:
        table = state[grid.positions]
        _check_dimensions(grid.positions, table, 2, least=1 + grid.extra)
        changed[grid.positions] = resize_positions(
            table, grid.side, grid.extra, grid.antialias, grid.filter
        )
    if grid.patch_size and "patch.weight" in state:
        _check_dimensions("patch.weight", state["patch.weight"], 4, least=1)
        changed["patch.weight"] = resize_kernel(state["patch.weight"], grid.patch_size)
    return state.updated(changed)


def _check_dimensions(name: str, tensor: Tensor, dimensions: int, least: int) -> None:
    """Raises CheckpointError for what can't be resized."""
    if tensor.ndim != dimensions or len(tensor) < least or not tensor.numel():
        raise CheckpointError(
            f"{name} is {list(tensor.shape)}, and no table or kernel that can be resized: it is of "
            "another model, or damaged"
        )


def resize_positions(
    positions: Float[Tensor, "old width"],
    side: int,
    extra: int = 1,
    antialias: bool = True,
    filter: Filter = "bicubic",
) -> Float[Tensor, "new width"]:
    """A learned table for a square of side x side patches, interpolated in float32 (Dosovitskiy
    et al. 2020, arXiv:2010.11929, §3.2); the first `extra` rows (the class token) are kept.
    `antialias` as open_clip has it; EVA (github.com/baaivision/EVA) does without.

    Raises CheckpointError for a table that is no square.

    >>> import torch
    >>> from diptych.weights.resize import resize_positions
    >>> resize_positions(torch.zeros(1 + 49, 8), side=14).shape
    torch.Size([197, 8])
    """
    # The class token stands at no place of the picture: its row is kept.
    first, grid = positions[:extra], positions[extra:]
    old = math.isqrt(len(grid))
    if old * old != len(grid):
        raise CheckpointError(f"{len(positions)} positions are not {extra} and a square of patches")
    if old == side:
        return positions
    # The table in reading order is a small picture with `width` channels. A patch of the new grid
    # covers another part of the photo: it gets what a patch there would have had.
    plane = _interpolate(grid.T.reshape(1, -1, old, old), side, antialias, filter)
    return torch.cat([first, plane.flatten(2)[0].T])


def resize_kernel(
    kernel: Float[Tensor, "width channels old old"], size: int
) -> Float[Tensor, "width channels size size"]:
    """The patches' kernel for patches of `size` pixels, by bicubic interpolation in float32, as EVA
    makes 16 of 14. The sum over a kernel grows with its area, so outputs keep their direction, not
    their size; training goes on from there.

    >>> import torch
    >>> from diptych.weights.resize import resize_kernel
    >>> resize_kernel(torch.zeros(8, 3, 14, 14), 16).shape
    torch.Size([8, 3, 16, 16])
    """
    return kernel if kernel.shape[-1] == size else _interpolate(kernel, size, antialias=False)


def _interpolate(planes: Tensor, side: int, antialias: bool, filter: Filter = "bicubic") -> Tensor:
    # Patches are areas, not points: `align_corners=False` maps edges to edges, so that the first
    # and the last patch stay half a patch from the border. The cubic's weights reach below 0 and
    # sum to 1, which half precision would blur.
    resized = F.interpolate(
        planes.float(), size=(side, side), mode=filter, antialias=antialias, align_corners=False
    )
    return resized.to(planes.dtype)


KEPT = 20
"""Positions that `stretch_positions` leaves as they were: few captions are longer, so few rows
behind them were trained as well."""


def stretch_positions(
    table: Float[Tensor, "old width"], length: int, kept: int = KEPT
) -> Float[Tensor, "new width"]:
    """A text tower's learned table for texts of `length` tokens, by the knowledge-preserving
    stretching of Long-CLIP (Zhang et al. 2024, arXiv:2403.15378, §3.1): the first `kept` rows are
    as they were, those behind are interpolated linearly in float32, and the last step goes on.
    Tables of 77 rows become Long-CLIP's of 248.

    Raises CheckpointError for a table without two rows to go on from.

    >>> import torch
    >>> from diptych.weights.resize import stretch_positions
    >>> stretch_positions(torch.tensor([[5.0], [0.0], [4.0]]), 5, kept=1)[:, 0]
    tensor([5., 0., 2., 4., 6.])
    """
    last = len(table) - 1
    if last <= kept:
        raise CheckpointError(
            f"positions has {len(table)} rows, of which the first {kept} are kept: there are none "
            f"to stretch to {length}"
        )
    rows = table.float()
    # Where each new row stands among the old ones behind those that are kept.
    share = (last + 1 - kept) / (length - kept)
    places = kept + torch.arange(length - kept, device=table.device) * share
    before = places.long().clamp(max=last - 1)
    weight = (places - before)[:, None]
    made = torch.lerp(rows[before], rows[before + 1], weight)
    return torch.cat([table[:kept], made.to(table.dtype)])
