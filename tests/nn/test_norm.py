"""Batch norms in a repeated pass."""

import pytest
import torch
from torch import nn

from diptych.nn import unrecorded


def test_statistics_are_used_and_not_recorded():
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.3)),
        torch.randn(5, 3, 2, 2),
    )
    first = model(x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with unrecorded(model):
        assert torch.equal(model(x), first)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(x)
    assert model[1].num_batches_tracked == 2
    assert model[1].momentum == 0.3
    assert not torch.equal(model[1].running_mean, before["1.running_mean"])


def test_an_error_within_restores_recording():
    norm = nn.BatchNorm2d(4)
    with pytest.raises(ZeroDivisionError), unrecorded(norm):
        raise ZeroDivisionError
    assert norm.momentum == 0.1
    assert norm.num_batches_tracked == 0
