"""Modules that have shapes and no numbers."""

import pytest
import torch
from torch import nn

from diptych.models.shapes import shapes_only


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x.uniform_(1, 2),
        lambda x: x.normal_(mean=9),
        nn.init.kaiming_uniform_,
        nn.init.uniform_,
        lambda x: nn.init.normal_(tensor=x, mean=9),
    ],
)
def test_nothing_is_drawn_within(draw):
    room, before = torch.zeros(2, 2), torch.get_rng_state()
    with shapes_only():
        assert draw(room) is room
    assert not room.any()
    assert torch.equal(torch.get_rng_state(), before)
    assert draw(room).any()


def test_layers_have_their_shapes():
    with shapes_only():
        made = nn.ModuleList([nn.Conv2d(3, 4, 2), nn.Embedding(5, 6), nn.MultiheadAttention(4, 2)])
    drawn = nn.ModuleList([nn.Conv2d(3, 4, 2), nn.Embedding(5, 6), nn.MultiheadAttention(4, 2)])
    assert {name: weight.shape for name, weight in made.named_parameters()} == {
        name: weight.shape for name, weight in drawn.named_parameters()
    }
    assert all(weight.is_meta for weight in made.parameters())
