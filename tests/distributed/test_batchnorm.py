"""Norms whose statistics are shared do what they did before."""

import copy

import pytest
import torch
from torch import nn

from diptych.distributed import Peers
from diptych.distributed.batchnorm import share_batch_statistics
from diptych.errors import ConfigError


def stepped(module):
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = module(x)
    y.square().sum().backward()
    return y.detach(), x.grad, {name: each.clone() for name, each in module.state_dict().items()}


@pytest.mark.parametrize(
    ("device", "mode"), [("cpu", "training"), ("cpu", "evaluation"), ("cuda", "evaluation")]
)
def test_an_activation_within_a_norm_and_a_norm_without_a_gain_stay(device, mode):
    """torch's own, which GPUs have, sum nothing in evaluation, and so are tried without one."""
    layers = pytest.importorskip("timm.layers")
    act = layers.BatchNormAct2d(3, act_layer=nn.SiLU)
    ours = nn.Sequential(act, nn.BatchNorm2d(3, affine=False)).train(mode == "training")
    shared = copy.deepcopy(ours)
    share_batch_statistics(shared, Peers(device=torch.device(device)))
    assert not {type(each) for each in shared} & {type(each) for each in ours}
    torch.testing.assert_close(stepped(shared), stepped(ours))


class Twice(nn.BatchNorm2d):
    def forward(self, input):
        return 2 * super().forward(input)


def test_a_norm_that_does_more_is_refused():
    with pytest.raises(ConfigError, match="of a Twice, which has a forward of its own"):
        share_batch_statistics(nn.Sequential(Twice(3)), Peers())
