"""From a configuration to an optimiser."""

from typing import Any

import torch

from diptych.components import callable_of
from diptych.config import OptimConfig
from diptych.errors import ConfigError
from diptych.optim.groups import Group

_OF_THE_RUN = ("lr", "scale")
"""What `set_learning_rate` reads and writes."""


def build_optimizer(config: OptimConfig, groups: tuple[Group, ...]) -> torch.optim.Optimizer:
    """The optimiser that `config.name` names, over the parameter groups; the learning rate is set
    before each step by `set_learning_rate`.

    Raises ConfigError where the name is that of a function which gives no optimiser.

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
    found = callable_of(config.implementation, what="optimiser")(chosen, config)
    if not isinstance(found, torch.optim.Optimizer):
        raise ConfigError(
            f"{config.implementation} gives a {type(found).__name__}; it must give a "
            "torch.optim.Optimizer over the groups that it is given"
        )
    return found


def adamw(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    """`optim.name` adamw: torch's, one fused pass over the weights."""
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def group_numbers(optimizer: torch.optim.Optimizer) -> list[dict[str, bool | int | float]]:
    """The plain numbers of each group but for the learning rate, which the run sets.

    Some optimisers change them: Prodigy its estimate of the distance (Mishchenko & Defazio 2023,
    arXiv:2306.06101), schedule-free ones the sum of their weights (Defazio et al. 2024,
    arXiv:2405.15682).

    >>> import torch
    >>> from diptych.optim import group_numbers
    >>> [each["momentum"] for each in group_numbers(torch.optim.SGD([torch.zeros(1)], lr=0.1))]
    [0]
    """
    return [
        {
            name: value
            for name, value in group.items()
            if isinstance(value, bool | int | float) and name not in _OF_THE_RUN
        }
        for group in optimizer.param_groups
    ]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use the learning rate `rate`, times its scale, for every group from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
