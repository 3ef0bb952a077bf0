"""The transformer block with scaled branches."""

import pytest
import torch
from torch import nn

from diptych.nn.block import Block, init_blocks


def _block(layer_scale=None):
    torch.manual_seed(0)
    sizes = {"width": 8, "heads": 2, "mlp_width": 16, "activation": "gelu", "eps": 1e-5}
    block = Block(**sizes, layer_scale=layer_scale)
    init_blocks([block], 8)
    return block.double()


def test_branches_begin_with_the_scale_they_are_given():
    block, plain = _block(0.25), _block()
    assert set(block.scale_1.tolist()) == set(block.scale_2.tolist()) == {0.25}
    assert plain.scale_1 is plain.scale_2 is None
    assert "scale_1" not in plain.state_dict()


@pytest.mark.parametrize("pick", [None, (slice(None), 0)])
def test_scales_are_the_same_as_scaled_matrices(pick):
    block, plain = _block(0.25), _block()
    with torch.no_grad():
        block.scale_1.copy_(torch.arange(8) / 4)
        block.scale_2.copy_(torch.arange(8) / 8)
        for linear, scale in ((plain.attention.out, "scale_1"), (plain.mlp.down, "scale_2")):
            assert isinstance(linear, nn.Linear)
            linear.weight.mul_(getattr(block, scale)[:, None])
            linear.bias.mul_(getattr(block, scale))
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x, pick=pick), plain(x, pick=pick), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(block(x, values=True), plain(x, values=True), rtol=1e-12, atol=1e-12)
