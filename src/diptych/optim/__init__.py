"""How weights move: parameter groups, learning-rate schedules, optimisers."""

from diptych.optim.build import build_optimizer, group_numbers, set_learning_rate
from diptych.optim.groups import (
    Group,
    decay_groups,
    group_records,
    group_table,
    layer_lr_scales,
    norms_and_biases,
)
from diptych.optim.schedule import learning_rate

__all__ = [
    "Group",
    "build_optimizer",
    "decay_groups",
    "group_numbers",
    "group_records",
    "group_table",
    "layer_lr_scales",
    "learning_rate",
    "norms_and_biases",
    "set_learning_rate",
]
