"""open_clip_train's schedules: each sets the learning rate of a step, and returns it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

Adjuster = Callable[[int], float]


def assign_learning_rate(optimizer: Optimizer, new_lr: float) -> None:
    """The rate of all groups, times a group's own `lr_scale`; rates that are tensors stay those."""
    for group in optimizer.param_groups:
        rate = new_lr * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def get_learning_rate(optimizer: Optimizer) -> float:
    """What was assigned: the rate of the first group without a scale, or before its scale."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) / group.get("lr_scale", 1.0)


def tensorize_learning_rate(optimizer: Optimizer, device: torch.device | None = None) -> None:
    """Make tensors on a device of the rates: a step that is compiled isn't compiled anew for each
    rate.

    >>> import torch
    >>> from diptych.compat.open_clip_train.scheduler import tensorize_learning_rate
    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    >>> tensorize_learning_rate(optimizer)
    >>> optimizer.param_groups[0]["lr"]
    tensor(0.5000)
    """
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)


def cosine_lr(optimizer: Optimizer, base_lr: float, warmup_length: int, steps: int) -> Adjuster:
    """A warm-up to `base_lr`, and half a cosine to 0.

    >>> import torch
    >>> from diptych.compat.open_clip_train.scheduler import cosine_lr
    >>> optimizer = torch.optim.SGD([torch.zeros(1)])
    >>> adjust = cosine_lr(optimizer, 1.0, warmup_length=2, steps=6)
    >>> [round(adjust(step), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    whole = max(1, steps - warmup_length)

    def later(step: int) -> float:
        return base_lr * (1 + math.cos(math.pi * (step - warmup_length) / whole)) / 2

    return _adjuster(optimizer, base_lr, warmup_length, later)


def const_lr(optimizer: Optimizer, base_lr: float, warmup_length: int, steps: int) -> Adjuster:
    """A warm-up to `base_lr`, which stays."""
    return _adjuster(optimizer, base_lr, warmup_length, lambda step: base_lr)


def const_lr_cooldown(
    optimizer: Optimizer,
    base_lr: float,
    warmup_length: int,
    steps: int,
    cooldown_steps: int,
    cooldown_power: float = 1.0,
    cooldown_end_lr: float = 0.0,
) -> Adjuster:
    """The same, and in the last `cooldown_steps` to `cooldown_end_lr`, along a power of what is
    left of them."""

    def later(step: int) -> float:
        if step < steps - cooldown_steps:
            return base_lr
        left = max(0, steps - step) / cooldown_steps
        return cooldown_end_lr + (base_lr - cooldown_end_lr) * left**cooldown_power

    return _adjuster(optimizer, base_lr, warmup_length, later)


def _adjuster(
    optimizer: Optimizer, base_lr: float, warmup_length: int, later: Adjuster
) -> Adjuster:
    """A straight line up to `base_lr`, then `later`; any rate and lengths, as open_clip takes them,
    where a run's configuration is stricter."""

    def adjust(step: int) -> float:
        warm = step < warmup_length
        rate = base_lr * (step + 1) / warmup_length if warm else later(step)
        assign_learning_rate(optimizer, rate)
        return rate

    return adjust
