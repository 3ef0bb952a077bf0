"""Pictures of their own aspect as open_clip's loaders give them (NaFlex): patches, where each lies,
and which of them are there.

    patches      [batch, patches, size * size * 3], colours last, filled up with zeros; or of
                 another size than the tower's, [batch, patches, height, width, 3]
    patch_coord  [batch, patches, 2], row and column
    patch_valid  [batch, patches]
    seq_len      how many patches a row has
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from diptych.errors import ConfigError
from diptych.inputs.native import real_patches, unpack


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


def packed(
    image: Mapping[str, Any], patch_size: int, mode: Literal["bicubic", "bilinear"] = "bicubic"
) -> Float[Tensor, "batch 3 rows {patch_size}"]:
    """The same pictures as Diptych's own NaFlex tower takes them (`inputs.native`), patches of
    another size `resized` by `mode`. Raises ConfigError for rows of another length, and where
    patches don't fill a grid in reading order."""
    check_patches(image, patch_size)
    patches: Tensor = image["patches"]
    flat = (resized(patches, patch_size, mode) if patches.ndim == 5 else patches).flatten(2)
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
    return _with_grids(column, grids)


def check_patches(image: Mapping[str, Any], patch_size: int) -> None:
    """Raises ConfigError for what lacks a name, and for rows of another length than patches of this
    size have."""
    if missing := [name for name in ("patches", "patch_coord", "patch_valid") if name not in image]:
        raise ConfigError(f"pictures in patches lack {' and '.join(missing)}")
    numbers = image["patches"].flatten(2).shape[2]
    if image["patches"].ndim != 5 and numbers != patch_size**2 * 3:
        raise ConfigError(
            f"patches of {numbers} numbers; this tower takes {patch_size} x {patch_size} pixels of "
            f"three colours, {patch_size**2 * 3}"
        )


def as_packed(
    x: Mapping[str, Any] | Float[Tensor, "batch 3 height width"],
    patch_size: int,
    mode: Literal["bicubic", "bilinear"],
) -> Float[Tensor, "batch 3 rows {patch_size}"]:
    """The same of patches by name, of pixels of whole patches, and of what is so already."""
    if isinstance(x, Mapping):
        return packed(x, patch_size, mode)
    return x if x.shape[3] == patch_size else packed_squares(x, patch_size)


def resized(
    patches: Float[Tensor, "batch patches height width colours"],
    size: int,
    mode: Literal["bicubic", "bilinear"] = "bicubic",
) -> Float[Tensor, "batch patches {size} {size} colours"]:
    """Patches of another size as those of `size` that, made as large, are nearest to them. A kernel
    sees in these what its own resized form sees in those (FlexiViT, Beyer et al. 2023,
    arXiv:2212.08013, equation 4).

    >>> import torch
    >>> from diptych.compat.faces.naflex import resized
    >>> resized(torch.ones(1, 2, 32, 32, 3), 16).shape
    torch.Size([1, 2, 16, 16, 3])
    """
    sides = patches.shape[2:4]
    if sides == (size, size):
        return patches
    back = _back(size, tuple(sides), mode).to(patches.device)
    found = torch.einsum("bnpc,pq->bnqc", patches.flatten(2, 3).float(), back)
    return found.unflatten(2, (size, size)).to(patches.dtype)


@functools.lru_cache
def _back(size: int, sides: tuple[int, int], mode: str) -> Float[Tensor, "given taken"]:
    """From patches of these sides to such of `size`, the pseudoinverse of making them as large."""
    unit = torch.eye(size**2).view(-1, 1, size, size)
    larger = F.interpolate(unit, size=sides, mode=mode, antialias=True).flatten(1)
    return torch.linalg.pinv(larger.double()).float()


def check_whole(pixels: Float[Tensor, "batch 3 height width"], patch_size: int) -> None:
    """Raises ConfigError for sides that aren't whole patches."""
    height, width = pixels.shape[2:]
    if height % patch_size or width % patch_size:
        raise ConfigError(
            f"pictures of {height} x {width} pixels aren't whole patches of {patch_size} x "
            f"{patch_size}"
        )


def packed_squares(
    pixels: Float[Tensor, "batch 3 height width"], patch_size: int
) -> Float[Tensor, "batch 3 rows {patch_size}"]:
    """Pictures of one size, in patches, all of which are there. Raises ConfigError for sides that
    aren't whole patches.

    >>> import torch
    >>> from diptych.compat.faces.naflex import packed_squares
    >>> packed_squares(torch.zeros(1, 3, 32, 48), 16).shape
    torch.Size([1, 3, 97, 16])
    """
    height, width = pixels.shape[2:]
    check_whole(pixels, patch_size)
    grid = torch.tensor([height // patch_size, width // patch_size], device=pixels.device)
    cells = pixels.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))
    # [batch, 3, rows, y, columns, x] -> [batch, 3, patches y, x]
    column = cells.transpose(3, 4).reshape(len(pixels), 3, -1, patch_size)
    return _with_grids(column, grid.expand(len(pixels), -1))


def patches_of(image: Mapping[str, Any] | Tensor, patch_size: int) -> dict[str, Any]:
    """What such loaders would give of the same pictures: of these themselves, of what Diptych's own
    transform makes (`inputs.native`), or of pixels of whole patches.

    >>> import torch
    >>> from diptych.compat.faces.naflex import patches_of
    >>> patches_of(torch.zeros(1, 3, 32, 48), 16)["patches"].shape
    torch.Size([1, 6, 768])
    """
    if isinstance(image, Mapping):
        return {**image, "patches": image["patches"].flatten(2)}
    if image.shape[3] != patch_size:
        image = packed_squares(image, patch_size)
    column, grids = unpack(image, patch_size)
    # [batch, 3, patches y, x] -> [batch, patches, y x 3]
    flat = column.unflatten(2, (-1, patch_size)).permute(0, 2, 3, 4, 1).flatten(2)
    places, seen = real_patches(grids, flat.shape[1])
    columns = grids[:, 1:].clamp(min=1)
    coordinates = torch.stack((places // columns, places % columns), dim=-1)
    # Of what fills up a row the loaders say 0: the largest ones tell the grid.
    coordinates = coordinates.masked_fill(~seen[..., None], 0)
    return {"patches": flat, "patch_coord": coordinates, "patch_valid": seen}


def _with_grids(
    column: Float[Tensor, "batch 3 pixels wide"], grids: Int[Tensor, "batch 2"]
) -> Float[Tensor, "batch 3 rows wide"]:
    """With the last row, which says how many rows and columns of patches there are."""
    said = column.new_zeros(len(column), 3, 1, column.shape[3])
    for axis in range(2):
        high, low = grids[:, axis] // 256, grids[:, axis] % 256
        said[:, axis, 0, :2] = torch.stack((high, low), dim=-1).to(column.dtype)
    return torch.cat((column, said), dim=2)
