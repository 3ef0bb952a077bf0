"""From a configuration to an optimiser."""

import torch

from diptych.config import OptimConfig
from diptych.optim.groups import Group


def build_optimizer(config: OptimConfig, groups: tuple[Group, ...]) -> torch.optim.Optimizer:
    """AdamW or SGD over the parameter groups, one fused pass over the weights; the learning rate is
    set before each step by `set_learning_rate`.

    >>> from torch import nn
    >>> from diptych.config import OptimConfig
    >>> from diptych.optim import build_optimizer, decay_groups, set_learning_rate
    >>> groups = decay_groups(nn.Linear(2, 3), frozenset(), 0.2, {"weight": 0.1})
    >>> optimizer = build_optimizer(OptimConfig(name="adamw"), groups)
    >>> set_learning_rate(optimizer, 0.5)
    >>> [(group["weight_decay"], group["lr"]) for group in optimizer.param_groups]
    [(0.2, 0.05), (0.0, 0.5)]
    """
    chosen = [
        {"params": list(group.parameters), "weight_decay": group.weight_decay, "scale": group.scale}
        for group in groups
    ]
    if config.name == "sgd":
        return torch.optim.SGD(
            chosen, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True
        )
    return torch.optim.AdamW(chosen, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use the learning rate `rate`, times its scale, for every group from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
