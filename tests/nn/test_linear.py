"""Which linear layers may be read around, and that the two ways give the same."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from diptych.families.eva import EvaConfig
from diptych.families.eva.model import EvaAttention
from diptych.nn import Attention, Mlp, is_bare


class Sub(nn.Linear):
    pass


def parametrized() -> nn.Module:
    return parametrizations.weight_norm(nn.Linear(4, 4))


def pruned() -> nn.Module:
    return prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)


def replaced() -> nn.Module:
    """As offloading has it: `forward` of the one layer."""
    layer = nn.Linear(4, 4)
    layer.forward = layer.forward
    return layer


HOOKS = {
    "forward": lambda layer: layer.register_forward_hook(lambda *_: None),
    "forward, before": lambda layer: layer.register_forward_pre_hook(lambda *_: None),
    "backward": lambda layer: layer.register_full_backward_hook(lambda *_: None),
    "backward, before": lambda layer: layer.register_full_backward_pre_hook(lambda *_: None),
}


@pytest.mark.parametrize("make", [lambda: Sub(4, 4), parametrized, pruned, replaced, nn.Identity])
def test_what_is_not_a_bare_linear_layer(make):
    assert not is_bare(make())


@pytest.mark.parametrize("kind", HOOKS)
def test_a_hook_makes_the_difference(kind):
    layer = nn.Linear(4, 4)
    assert is_bare(layer)
    handle = HOOKS[kind](layer)
    assert not is_bare(layer)
    handle.remove()
    assert is_bare(layer)


def attend_one() -> tuple[nn.Module, dict]:
    ends = torch.tensor([2, 0, 6])
    seen = torch.arange(7) <= ends[:, None]
    return Attention(width=24, heads=3), {"pick": (torch.arange(3), ends), "seen": seen}


def attend_eva() -> tuple[nn.Module, dict]:
    attention = EvaAttention(EvaConfig(width=24, heads=3, layers=1))
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.2)
    return attention, {}


def quick_gelu() -> tuple[nn.Module, dict]:
    return Mlp(width=24, hidden=48, activation="quick_gelu"), {}


@pytest.mark.parametrize("case", [attend_one, attend_eva, quick_gelu])
def test_called_and_read_around_give_the_same(case):
    torch.manual_seed(0)
    module, options = case()
    x = torch.randn(3, 7, 24)
    fast = module(x, **options)
    linears = {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear)}
    called = []
    for name, linear in linears.items():
        linear.register_forward_hook(lambda *_, name=name: called.append(name))
    torch.testing.assert_close(module(x, **options), fast)
    assert sorted(called) == sorted(linears)
