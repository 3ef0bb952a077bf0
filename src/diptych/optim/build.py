"""From a configuration to an optimiser."""

import torch

from diptych.config import OptimConfig
from diptych.optim.groups import Group


def build_optimizer(config: OptimConfig, groups: tuple[Group, ...]) -> torch.optim.Optimizer:
    """AdamW or SGD over the parameter groups, one fused pass over the weights; the learning rate is
    set before each step by `set_learning_rate`."""
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
