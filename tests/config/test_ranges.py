"""Numbers out of range are refused by name before anything begins."""

import math

import pytest

from diptych.config import OptimConfig
from diptych.errors import ConfigError


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"lr": math.nan}, "optim.lr nan must be a number above 0"),
        ({"lr": math.inf}, "optim.lr inf must be a number above 0"),
        ({"lr": -1.0}, "optim.lr -1.0 must be a number above 0"),
        ({"betas": (0.9, 2.0)}, "each of optim.betas, 2.0 must be a number from 0 to below 1"),
        ({"eps": -1.0}, "optim.eps -1.0 must be a number of at least 0"),
        ({"weight_decay": -1.0}, "optim.weight_decay -1.0 must be a number of at least 0"),
        ({"final_lr": math.nan}, "optim.final_lr nan must be a number of at least 0"),
        ({"max_norm": -0.1}, "optim.max_norm -0.1 must be a number of at least 0"),
        ({"warmup": -1}, "optim.warmup -1 must be a number of at least 0"),
        ({"momentum": 1.0}, "optim.momentum 1.0 must be a number from 0 to below 1"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(setting, says):
    with pytest.raises(ConfigError) as error:
        OptimConfig(**setting)
    assert str(error.value) == says
