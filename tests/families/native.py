"""Pictures of their own aspect, and small towers of timm's for them."""

import torch

from diptych.families.timm import NaflexVitConfig
from diptych.inputs.native import pack

PATCH, PATCHES = 4, 12
GRIDS = ((3, 4), (2, 3), (1, 5))
"""Rows and columns of patches of the three pictures; the first one has as many as there may be."""
TRUNK = NaflexVitConfig(
    name="naflexvit_base_patch16_gap",
    patch_size=PATCH,
    options={"global_pool": "avg", "embed_dim": 32, "depth": 1, "num_heads": 2, "reg_tokens": 2},
)


def packed(patches: int = PATCHES) -> torch.Tensor:
    """The three pictures, each filled up to so many patches."""
    generator = torch.Generator().manual_seed(4)
    found = []
    for rows, columns in GRIDS:
        size = (3, rows * PATCH, columns * PATCH)
        levels = torch.randint(256, size, generator=generator, dtype=torch.uint8)
        found.append(pack(levels, PATCH, patches))
    return torch.stack(found).float()


def unlike(pixels: torch.Tensor) -> torch.Tensor:
    """The same pictures, with noise in the patches that aren't there."""
    changed = pixels.clone()
    for row, (rows, columns) in enumerate(GRIDS):
        behind = changed[row, :, rows * columns * PATCH : -1]
        behind.copy_(torch.randn(behind.shape, generator=torch.Generator().manual_seed(7)) * 50)
    return changed
