"""A step that an optimiser is told not to make, by a number that only the device knows."""

from collections.abc import Sequence

import torch
from torch import Tensor


def skip_of(optimizer: torch.optim.Optimizer) -> Tensor | None:
    """Whether its step must move nothing, as a boolean on the device; None: nobody said. It is
    where torch's loss scaling puts it, `found_inf`."""
    found: Tensor | None = vars(optimizer).get("found_inf")
    return None if found is None else found > 0


def kept_where(
    skip: Tensor, moments: Sequence[Tensor], gradients: Sequence[Tensor]
) -> list[Tensor]:
    """The gradients, or, where `skip`, the moments: a moment that moves towards itself stays as it
    is, and no factor makes a number of what isn't one."""
    pairs = zip(moments, gradients, strict=True)
    return [torch.where(skip, moment, gradient) for moment, gradient in pairs]
