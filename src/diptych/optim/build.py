"""From a configuration to an optimiser."""

import torch

from diptych.config import OptimConfig
from diptych.optim.groups import Group


def build_optimizer(config: OptimConfig, groups: tuple[Group, ...]) -> torch.optim.AdamW:
    """AdamW over the groups, one fused pass over the weights; the rate is set before each step."""
    return torch.optim.AdamW(
        [
            {"params": list(group.parameters), "weight_decay": group.weight_decay, "scale": group.scale}
            for group in groups
        ],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use `rate`, times its scale, for every group from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
