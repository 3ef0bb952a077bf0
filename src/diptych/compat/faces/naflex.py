"""Pictures of their own aspect as open_clip's loaders give them (NaFlex): patches, where each lies,
and which of them are there.

    patches      [batch, patches, size * size * 3], colours last, filled up with zeros
    patch_coord  [batch, patches, 2], row and column
    patch_valid  [batch, patches]
    seq_len      how many patches a row has
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.errors import ConfigError


def blank(
    shape: Sequence[int], device: torch.device | None, dtype: torch.dtype | None
) -> dict[str, Any]:
    """Zeros in place of pictures, whose patches are of `shape`, in a square as nearly as can be."""
    batch, count = shape[:2]
    places = torch.arange(count, device=device)
    columns = math.ceil(math.sqrt(count))
    grid = torch.stack((places // columns, places % columns), dim=-1)
    return {
        "patches": torch.zeros(*shape, device=device, dtype=dtype),
        "patch_coord": grid.expand(batch, -1, -1).contiguous(),
        "patch_valid": torch.ones(batch, count, device=device, dtype=torch.bool),
        "seq_len": count,
    }


def packed(image: Mapping[str, Any], patch_size: int) -> Float[Tensor, "batch 3 rows {patch_size}"]:
    """The same pictures as Diptych's own NaFlex tower takes them (`inputs.native`). Raises
    ConfigError for patches of another size, and where they don't fill a grid in reading order."""
    patches: Tensor = image["patches"]
    flat = patches.flatten(2)
    if flat.shape[2] != patch_size**2 * 3:
        raise ConfigError(
            f"patches of {flat.shape[2]} numbers; this tower takes {patch_size} x {patch_size} "
            f"pixels of three colours, {patch_size**2 * 3}"
        )
    seen, places = image["patch_valid"].bool(), image["patch_coord"].long()
    grids = places.masked_fill(~seen[..., None], 0).amax(1) + 1
    order = torch.arange(flat.shape[1], device=flat.device)
    columns = grids[:, 1:]
    wanted = torch.stack((order // columns, order % columns), dim=-1)
    full = order < grids.prod(1, keepdim=True)
    if not (torch.equal(seen, full) and bool((places == wanted)[full].all())):
        raise ConfigError("patches must fill a grid of rows and columns, in reading order")
    # [batch, patches, y, x, 3] -> [batch, 3, patches y, x]
    column = flat.unflatten(2, (patch_size, patch_size, 3)).permute(0, 4, 1, 2, 3).flatten(2, 3)
    said = column.new_zeros(len(column), 3, 1, patch_size)
    for axis in range(2):
        high, low = grids[:, axis] // 256, grids[:, axis] % 256
        said[:, axis, 0, :2] = torch.stack((high, low), dim=-1).to(column.dtype)
    return torch.cat((column, said), dim=2)
