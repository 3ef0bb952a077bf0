"""Kernels of patches that stand as matrices of linear layers elsewhere (NaFlex)."""

import math

from torch import Tensor

from diptych.weights.mapping import Change


def kernel_of(matrix: Tensor) -> Tensor:
    """[width, rows columns channels] as [width, channels, rows, columns]; a kernel as it is.

    >>> import torch
    >>> from diptych.weights.kernels import kernel_of
    >>> kernel_of(torch.zeros(8, 4 * 4 * 3)).shape
    torch.Size([8, 3, 4, 4])
    """
    if matrix.ndim != 2:
        return matrix
    side = math.isqrt(matrix.shape[1] // 3)
    return matrix.unflatten(1, (side, side, 3)).permute(0, 3, 1, 2).contiguous()


def matrix_of(kernel: Tensor) -> Tensor:
    """The other way round.

    >>> import torch
    >>> from diptych.weights.kernels import matrix_of
    >>> matrix_of(torch.zeros(8, 3, 4, 4)).shape
    torch.Size([8, 48])
    """
    return kernel.permute(0, 2, 3, 1).flatten(1).contiguous()


def _read(parts: list[Tensor]) -> Tensor:
    return kernel_of(parts[0])


READ_KERNEL = Change(_read, lambda ours: [ours])
"""A linear layer's weights there, or a convolution's; a convolution's here."""
FROM_MATRIX = Change(_read, lambda ours: [matrix_of(ours)])
"""A linear layer's weights there."""
