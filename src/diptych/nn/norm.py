"""Batch normalisation when a forward pass is run again."""

from collections.abc import Generator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import (
    _BatchNorm,  # pyright: ignore[reportPrivateUsage]: torch has no public name for it
)


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """All batch norms of `module`: where there are none, a sample's output doesn't depend on its
    batch."""
    return [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]


@contextmanager
def unrecorded(module: nn.Module) -> Generator[None, None, None]:
    """Within, batch norms of `module` in training use their batch's statistics but don't record
    them.

    For passes that repeat an earlier one (activation checkpointing, cached gradients): what a batch
    contributes to the running statistics is counted once.

    >>> import torch
    >>> from diptych.nn import unrecorded
    >>> norm = torch.nn.BatchNorm2d(1)
    >>> with unrecorded(norm):
    ...     _ = norm(torch.ones(2, 1, 3, 3))
    >>> norm.running_mean, norm.num_batches_tracked
    (tensor([0.]), tensor(0))
    """
    # With momentum 0 the running mean is 1 * old + 0 * new; without a counter none is raised.
    norms = batch_norms(module)
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, before):
            norm.momentum, norm.num_batches_tracked = momentum, counted
