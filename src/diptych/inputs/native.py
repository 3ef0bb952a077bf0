"""Pictures of their own aspect as patches: NaFlex (SigLIP 2, Tschannen et al. 2025,
arXiv:2502.14786, §2.4.2; NaViT, Dehghani et al. 2023, arXiv:2307.06304).

A picture of any size becomes one column of patches under each other, of a fixed length, so that
pictures of many sizes make one tensor, as squares do:

    rows 0 to p - 1        the first patch of p x p pixels, in reading order
    ...
    rows .. patches p - 1  nothing, where the picture has fewer patches
    row  patches p         how many rows and columns of patches there are, as numbers of two bytes
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from diptych.errors import ConfigError
from diptych.inputs.resize import Interpolation

_LEAST, _MOST, _CLOSE = 1e-6, 100.0, 1e-5
"""Between which factors the picture's is sought, and how exactly: those of the published code
(big_vision, pp_naflex), which decide how many patches there are."""


def native_grid(height: int, width: int, patch_size: int, patches: int) -> tuple[int, int]:
    """Rows and columns of patches of a picture of these pixels: as many as its aspect and the
    budget of `patches` allow. A side is rounded up to whole patches, so the aspect is kept nearly.

    >>> from diptych.inputs.native import native_grid
    >>> native_grid(480, 640, 16, 256), native_grid(1, 5000, 16, 256)
    ((14, 18), (1, 256))
    """

    def grid(factor: float) -> tuple[int, int]:
        sides = (math.ceil(side * factor / patch_size) for side in (height, width))
        rows, columns = (max(1, side) for side in sides)
        return rows, columns

    low, high = _LEAST, _MOST
    while high - low >= _CLOSE:
        middle = (low + high) / 2
        if math.prod(grid(middle)) <= patches:
            low = middle
        else:
            high = middle
    return grid(low)


def fit(
    levels: UInt8[Tensor, "3 height width"],
    patch_size: int,
    patches: int,
    interpolation: Interpolation,
) -> UInt8[Tensor, "3 _ _"]:
    """The picture, resized to whole patches, as many as the budget of `patches` allows.

    >>> import torch
    >>> from diptych.inputs.native import fit
    >>> fit(torch.zeros(3, 40, 60, dtype=torch.uint8), 8, 20, "bilinear").shape
    torch.Size([3, 32, 40])
    """
    height, width = levels.shape[1:]
    grid = native_grid(height, width, patch_size, patches)
    size = (grid[0] * patch_size, grid[1] * patch_size)
    # As torchvision does it, which transformers' processor calls. Pillow's order of the sides
    # (`inputs.resize`) would change a fifth of a narrow picture's levels by one.
    interleaved = levels[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(interleaved, size, mode=interpolation, antialias=True)[0]


def pack(
    levels: UInt8[Tensor, "3 height width"], patch_size: int, patches: int
) -> UInt8[Tensor, "3 rows {patch_size}"]:
    """A picture of whole patches, `patches` at the most, as a column of them (see above).

    >>> import torch
    >>> from diptych.inputs.native import pack
    >>> pack(torch.zeros(3, 32, 40, dtype=torch.uint8), 8, 20).shape
    torch.Size([3, 161, 8])
    """
    grid = tuple(side // patch_size for side in levels.shape[1:])
    # [3, rows, y, columns, x] -> [3, rows columns y, x]
    apart = levels.unflatten(2, (grid[1], -1)).unflatten(1, (grid[0], -1))
    column = apart.transpose(2, 3).reshape(3, -1, patch_size)
    packed = F.pad(column, (0, 0, 0, (patches - math.prod(grid)) * patch_size + 1))
    packed[:2, -1, :2] = torch.tensor([divmod(side, 256) for side in grid], dtype=torch.uint8)
    return packed


def unpack(
    packed: Float[Tensor, "batch 3 rows wide"], patch_size: int
) -> tuple[Float[Tensor, "batch 3 column {patch_size}"], Int[Tensor, "batch 2"]]:
    """The columns of patches, and of each picture its rows and columns of patches. Nothing waits
    for the device. Raises ConfigError for pictures that weren't packed for this patch size.

    >>> import torch
    >>> from diptych.inputs.native import pack, unpack
    >>> packed = pack(torch.zeros(3, 32, 40, dtype=torch.uint8), 8, 20)
    >>> column, grids = unpack(packed[None].float(), 8)
    >>> grids.tolist(), column.shape
    ([[4, 5]], torch.Size([1, 3, 160, 8]))
    """
    rows, wide = packed.shape[2:]
    if wide != patch_size or rows % patch_size != 1:
        raise ConfigError(
            f"pictures of {(rows, wide)} pixels; this tower takes patches of {patch_size} x "
            f"{patch_size} pixels, as Preprocess makes them where resize is 'native'"
        )
    # Bytes are whole numbers in any precision.
    high, low = packed[:, :2, -1, :2].long().unbind(-1)
    return packed[:, :, :-1], 256 * high + low


def real_patches(
    grids: Int[Tensor, "batch 2"], patches: int
) -> tuple[Int[Tensor, " {patches}"], Bool[Tensor, "batch {patches}"]]:
    """The places 0, 1, ... of so many patches, and which of them a picture of this grid has: as the
    shapes depend on their number alone, nothing waits for the device.

    >>> import torch
    >>> from diptych.inputs.native import real_patches
    >>> real_patches(torch.tensor([[1, 2]]), 4)
    (tensor([0, 1, 2, 3]), tensor([[ True,  True, False, False]]))
    """
    places = torch.arange(patches, device=grids.device)
    return places, places < grids.prod(1, keepdim=True)


def seen_patches(
    pixels: Float[Tensor, "batch 3 rows patch_size"], patch_size: int
) -> Bool[Tensor, "batch patches"]:
    """Which of a batch's patches are of its packed pictures.

    >>> import torch
    >>> from diptych.inputs.native import pack, seen_patches
    >>> packed = pack(torch.zeros(3, 32, 16, dtype=torch.uint8), 16, 3)
    >>> seen_patches(packed[None].float(), 16).tolist()
    [[True, True, False]]
    """
    column, grids = unpack(pixels, patch_size)
    return real_patches(grids, column.shape[2] // patch_size)[1]
