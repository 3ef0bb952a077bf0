"""Towers that are asked in blocks of one shape."""

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 64
"""Of a block: enough for a GPU to be busy, and few to fill up."""


def in_blocks(encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """`encode` of all rows, by blocks of always as many; the last one is filled up with its last
    row, and what comes of that is dropped.

    Libraries choose how they multiply matrices, and in which order they sum, by the shapes. So
    a row's result, bit for bit, depends on how many others stand beside it, but not on what they
    are: with blocks of one shape it is the same whoever asks, for how many rows.

    >>> import torch
    >>> from diptych.models.blocks import in_blocks
    >>> shapes = []
    >>> def double(rows):
    ...     shapes.append(len(rows))
    ...     return 2 * rows
    >>> in_blocks(double, torch.ones(70, 3)).shape, shapes
    (torch.Size([70, 3]), [64, 64])
    """
    missing = -len(rows) % ROWS
    filled = torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows
    return torch.cat([encode(block) for block in filled.split(ROWS)])[: len(rows)]
