"""What open_clip_train's two loops share, under the name that its main branch gives it."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_COMPILED = ("backend", "mode", "dynamic")


def random_seed(seed: int = 42, rank: int = 0) -> None:
    """Make torch's, numpy's and Python's random numbers those of a seed and a process."""
    torch.manual_seed(seed + rank)
    np.random.seed(seed + rank)
    random.seed(seed + rank)


def torch_compile_kwargs(args: Any) -> dict[str, Any]:
    """What arguments say to `torch.compile`, and to `TrainingTask.compile`: of
    `torchcompile_backend`, `torchcompile_mode` and `torchcompile_dynamic` those that aren't None.

    >>> from types import SimpleNamespace
    >>> from diptych.compat.open_clip_train.utils import torch_compile_kwargs
    >>> torch_compile_kwargs(SimpleNamespace(torchcompile_backend="eager", torchcompile_mode=None))
    {'backend': 'eager'}
    """
    said = {name: vars(args).get(f"torchcompile_{name}") for name in _COMPILED}
    return {name: value for name, value in said.items() if value is not None}


class AverageMeter:
    """The last of some numbers, and their mean.

    >>> from diptych.compat.open_clip_train.utils import AverageMeter
    >>> meter = AverageMeter()
    >>> meter.update(2.0, n=3)
    >>> meter.update(6.0)
    >>> meter.val, meter.avg, meter.count
    (6.0, 3.0, 4)
    """

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self.val: float = 0
        self.avg: float = 0
        self.sum: float = 0
        self.count = 0

    def update(self, val: float, n: int = 1) -> None:
        """Take a number that stands for `n`."""
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def postprocess_clip_output(model_out: Sequence[Tensor]) -> dict[str, Tensor]:
    """The first three of what a model gives as a tuple, by name: a bias is left out, as InfoNCE has
    none."""
    names = ("image_features", "text_features", "logit_scale")
    return dict(zip(names, model_out[:3], strict=True))


def backward(total_loss: Tensor, scaler: Any) -> None:
    """The gradients of a loss; `scaler`: torch's `GradScaler`, or None."""
    (total_loss if scaler is None else scaler.scale(total_loss)).backward()
