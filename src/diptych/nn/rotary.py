"""Positions as rotations (RoPE, Su et al. 2021, arXiv:2104.09864): of texts in one dimension, of
pictures in two, as EVA-02 has them (Fang et al. 2023, arXiv:2303.11331) and the Perception Encoder
(Bolya et al. 2025, arXiv:2504.13181)."""

import torch
from jaxtyping import Float
from torch import Tensor

THETA = 10000.0

Rotary = Float[Tensor, "2 *rows tokens 1 1 head"]
"""Cosines and signed sines of each token, ready for queries and keys of [batch, tokens, 2, heads,
width]."""


def rotary_table(
    side: int,
    reference: int,
    width: int,
    device: torch.device | None = None,
    *,
    first: int = 0,
    columns_first: bool = False,
) -> Float[Tensor, "2 patches {width}"]:
    """Cosines and signed sines for a square of side x side patches in reading order and heads of
    `width` channels.

    The first half of a head turns with the patch's row, the second with its column: channels 2m and
    2m + 1 of a half by position * THETA ** (-4m / width). Frequencies belong to a square of
    `reference` patches; other squares are interpolated: patch i of `side` stands at (i + `first`) *
    reference / side. `columns_first`: the first half turns with the column, the second with the
    row.

    >>> from diptych.nn.rotary import rotary_table
    >>> rotary_table(side=3, reference=3, width=8).shape
    torch.Size([2, 9, 8])
    """
    # In one dimension, pair m of w channels turns by position * theta^(-2m / w), equation 15: the
    # first pairs tell neighbours apart, the last ones distant places. Each axis has w = width / 2.
    half = width // 2
    frequencies = THETA ** (-torch.arange(0, half, 2, device=device, dtype=torch.float32) / half)
    places = torch.arange(side, device=device, dtype=torch.float32) + first
    places = places * (reference / side)
    # Both channels of a pair turn by the same angle.
    angles = torch.outer(places, frequencies).repeat_interleave(2, dim=1)
    # Patch (i, j) turns by angle i in the first half of its channels and by angle j in the second.
    rows, columns = angles[:, None].expand(-1, side, -1), angles[None].expand(side, -1, -1)
    halves = [columns, rows] if columns_first else [rows, columns]
    turns = torch.cat(halves, dim=2).flatten(0, 1)
    return signed(turns.cos(), turns.sin())


def rotary_line(
    length: int, width: int, theta: float = THETA, device: torch.device | None = None
) -> Float[Tensor, "2 length {width}"]:
    """Cosines and signed sines for the tokens 0, 1, ... of a text and heads of `width` channels,
    an even number: channels 2m and 2m + 1 turn by place * theta ** (-2m / width).

    >>> from diptych.nn.rotary import rotary_line
    >>> rotary_line(length=5, width=8).shape
    torch.Size([2, 5, 8])
    """
    channels = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    places = torch.arange(length, device=device, dtype=torch.float32)
    angles = torch.outer(places, 1 / theta ** (channels / width)).repeat_interleave(2, dim=1)
    return signed(angles.cos(), angles.sin())


def signed(
    cosines: Float[Tensor, "tokens width"], sines: Float[Tensor, "tokens width"]
) -> Float[Tensor, "2 tokens width"]:
    """What `rotate` takes, of cosines and sines that are alike in both channels of a pair.

    >>> import torch
    >>> from diptych.nn.rotary import signed
    >>> signed(torch.zeros(1, 2), torch.ones(1, 2))[1]
    tensor([[-1.,  1.]])
    """
    # (a, b) turned is (a cos - b sin, b cos + a sin). `rotate` multiplies (b, a) by the sines, so
    # the sine of each pair's first channel is negative.
    pairs = sines.unflatten(1, (-1, 2))
    turned = torch.stack([-pairs[..., 0], pairs[..., 1]], dim=2).flatten(1)
    return torch.stack([cosines, turned])


def with_class_token(
    table: Float[Tensor, "2 *batch patches width"],
) -> Float[Tensor, "2 *batch tokens width"]:
    """The table with a token in front that isn't turned: cosine 1, sine 0."""
    one = torch.ones_like(table[0, ..., :1, :])
    return torch.cat([torch.stack([one, torch.zeros_like(one)]), table], dim=-2)


def rotate(
    x: Float[Tensor, "*any width"], table: Float[Tensor, "2 *table width"]
) -> Float[Tensor, "*any width"]:
    """Each pair of neighbouring channels of `x` turned by its angle; `table[0]` broadcasts over
    `x`.

    A query turned by its position and a key turned by its own have a product that depends on the
    difference of the two positions only (equation 16 of RoPE).

    >>> import torch
    >>> from diptych.nn.rotary import rotate
    >>> quarter = torch.tensor([[0.0, 0.0], [-1.0, 1.0]])
    >>> rotate(torch.tensor([1.0, 0.0]), quarter)
    tensor([0., 1.])
    """
    cosines, sines = table.to(x.dtype)
    # x * cosines + swapped * sines (equation 34), the neighbours of each pair swapped.
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * cosines, swapped, sines)
