"""From pictures to batches of patches with their places."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Patches = dict[str, Any]
"""`patches` [patches, pixels x colours], or [patches, height, width, colours] of sizes that aren't
the model's own; `patch_coord` [patches, 2], `patch_valid` [patches]."""


def patchify(image: Float[Tensor, "colours height width"], patch_size: tuple[int, int]) -> Patches:
    """A picture's patches in reading order, colours last within each; what lacks to whole ones is
    0.

    >>> import torch
    >>> from diptych.compat.open_clip_train.naflex_data import patchify
    >>> found = patchify(torch.zeros(3, 20, 32), (16, 16))
    >>> found["patches"].shape, found["patch_coord"].tolist()
    (torch.Size([4, 768]), [[0, 0], [0, 1], [1, 0], [1, 1]])
    """
    high, wide = patch_size
    colours, height, width = image.shape
    image = F.pad(image, (0, -width % wide, 0, -height % high))
    rows, columns = image.shape[1] // high, image.shape[2] // wide
    cells = image.reshape(colours, rows, high, columns, wide).permute(1, 3, 2, 4, 0)
    return {
        "patches": cells.reshape(rows * columns, -1),
        "patch_coord": torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).view(-1, 2),
        "patch_valid": torch.ones(rows * columns, dtype=torch.bool),
    }


def collate_patches(pictures: Sequence[Mapping[str, Any]], seq_len: int) -> Patches:
    """A batch of pictures' patches, each padded with 0 to `seq_len`, or cut to it."""
    found = Patches()
    for name in ("patches", "patch_coord", "patch_valid"):
        rows = [picture[name][:seq_len] for picture in pictures]
        lacking = [seq_len - len(row) for row in rows]
        padded = [
            F.pad(row, (0, 0) * (row.ndim - 1) + (0, count))
            for row, count in zip(rows, lacking, strict=True)
        ]
        found[name] = torch.stack(padded)
    return found | {"seq_len": seq_len}


def collate_naflex_tuples(
    batch: Sequence[tuple[Mapping[str, Any], Any]], max_seq_len: int | None = None
) -> tuple[Patches, Tensor]:
    """Patches of pictures, and what stands beside each, stacked."""
    longest = max_seq_len or max(len(picture["patches"]) for picture, _ in batch)
    return collate_patches([picture for picture, _ in batch], longest), torch.stack(
        [torch.as_tensor(target) for _, target in batch]
    )


def as_patches(picture: Any, patch_size: tuple[int, int], spatial: bool = False) -> Patches:
    """What a transform gave: patches, or a tensor that becomes them; `spatial`: not in a row."""
    found: Patches = picture if isinstance(picture, dict) else patchify(picture, patch_size)
    if not spatial or found["patches"].ndim > 2:
        return found
    return found | {"patches": found["patches"].unflatten(1, (*patch_size, -1))}
