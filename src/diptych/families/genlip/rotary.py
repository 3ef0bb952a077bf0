"""Positions as rotations along time, rows and columns, interleaved (MRoPE of Qwen2-VL, Wang et al.
2024, arXiv:2409.12191; GenLIP, arXiv:2605.00809, §3)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

Turns = tuple[Float[Tensor, "#batch tokens head"], Float[Tensor, "#batch tokens head"]]
"""Cosines and sines of each token."""


def axes_of(sections: Sequence[int], device: torch.device | None = None) -> Int[Tensor, " pairs"]:
    """By which axis each pair of channels turns: 0 time, 1 row, 2 column.

    In turn, from the fastest pair on, so that each axis has fast and slow ones; an axis whose
    section is used up leaves its turn to time.

    >>> from diptych.families.genlip.rotary import axes_of
    >>> axes_of((4, 2, 2)).tolist()
    [0, 1, 2, 0, 1, 2, 0, 0]
    """
    _, rows, columns = sections
    pairs = torch.arange(sum(sections), device=device)
    turn, round_ = pairs % 3, pairs // 3
    return turn * (((turn == 1) & (round_ < rows)) | ((turn == 2) & (round_ < columns)))


def turns(
    places: Int[Tensor, "3 batch tokens"],
    sections: Sequence[int],
    theta: float,
    dtype: torch.dtype = torch.float32,
) -> Turns:
    """Cosines and sines for tokens at these places on the three axes, and heads of twice as many
    channels as the `sections` have together, of which pair m is channels m and m + half.

    >>> import torch
    >>> from diptych.families.genlip.rotary import turns
    >>> turns(torch.zeros(3, 1, 5, dtype=torch.long), (1, 1, 1), 10000.0)[0].shape
    torch.Size([1, 5, 6])
    """
    device = places.device
    # Pair m of w channels turns by place * theta^(-2m / w), as in one dimension; only whose place
    # that is differs.
    channels = torch.arange(0, 2 * sum(sections), 2, device=device, dtype=torch.float32)
    frequencies = 1.0 / theta ** (channels / (2 * sum(sections)))
    angles = places.movedim(0, -1)[..., axes_of(sections, device)].float() * frequencies
    both = torch.cat([angles, angles], dim=-1)
    return both.cos().to(dtype), both.sin().to(dtype)


def turned(
    x: Float[Tensor, "batch heads tokens head"], by: Turns
) -> Float[Tensor, "batch heads tokens head"]:
    """Queries or keys, each pair of channels turned by its angle."""
    cosines, sines = (each[:, None] for each in by)
    # (a, b) turned is (a cos - b sin, b cos + a sin); a is the first half, b the second.
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-second, first], dim=-1) * sines


def grid_places(
    coordinates: Int[Tensor, "batch patches 2"],
) -> Int[Tensor, "3 batch patches"]:
    """The places of patches of these rows and columns: at time 0.

    >>> import torch
    >>> from diptych.families.genlip.rotary import grid_places
    >>> grid_places(torch.tensor([[[0, 0], [0, 1]]])).tolist()
    [[[0, 0]], [[0, 0]], [[0, 1]]]
    """
    rows, columns = coordinates.long().unbind(-1)
    return torch.stack([torch.zeros_like(rows), rows, columns])
