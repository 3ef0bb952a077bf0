"""The tables by which towers are drawn for masked image modelling, number by number."""

import math
from dataclasses import replace

import pytest
import torch

from diptych.errors import ConfigError, UnknownNameError
from diptych.families.clip import VitConfig
from diptych.families.eva import EvaConfig
from diptych.models import build_tower

FIRST = EvaConfig(image_size=32, patch_size=8, width=96, layers=3, heads=3, mlp_width=256)
SECOND = replace(FIRST, mlp="swiglu", mlp_norm=True, rotary_grid=4)


def drawn(config, table):
    torch.manual_seed(0)
    tower = build_tower(config, 48)
    tower.init_as(table)
    return dict(tower.named_parameters())


def close(tensor, std):
    """Of so many numbers the deviation is known to a few percent."""
    assert tensor.std().item() == pytest.approx(std, rel=0.06)
    assert abs(tensor.mean().item()) < 0.1 * std


def test_eva01():
    """A normal distribution that is cut at one deviation has 0.5396 of it."""
    found, std = drawn(FIRST, "eva01"), 0.015 * 0.5396
    for name in ("positions", "patch.weight", "projection.weight", "blocks.1.attention.qkv.weight"):
        close(found[name], std)
        assert found[name].abs().max() <= 0.015
    for number in range(3):
        for name in ("attention.out", "mlp.down"):
            close(found[f"blocks.{number}.{name}.weight"], std / math.sqrt(2 * (number + 1)))
    assert not any(found[name].any() for name in found if name.endswith("bias") and "_" not in name)


def test_eva02_with_sub_ln():
    """Xavier: 2 / (inputs + outputs) is the variance of each single matrix; sub-LN's gain is
    sqrt(ln 6) for three layers."""
    found, gain = drawn(SECOND, "eva02"), math.sqrt(math.log(6))
    square, tall = math.sqrt(2 / 192), math.sqrt(2 / (96 + 256))
    q, k, v = found["blocks.1.attention.qkv.weight"].chunk(3)
    close(q, square)
    close(k, square)
    close(v, square * gain)
    close(found["blocks.1.attention.out.weight"], square * gain)
    for part in (*found["blocks.2.mlp.gate_up.weight"].chunk(2), found["blocks.2.mlp.down.weight"]):
        close(part, tall * gain)
    close(found["projection.weight"], math.sqrt(2 / (96 + 48)))
    bound = math.sqrt(6 / (96 + 3 * 64))
    assert bound * 0.99 < found["patch.weight"].abs().max() <= bound
    close(found["positions"], 0.02)
    assert not found["patch.bias"].any()


def test_eva02_without_has_no_gain_and_post_norm_begins_as_nothing():
    found = drawn(replace(FIRST, norm_place="post"), "eva02")
    close(found["blocks.1.attention.qkv.weight"], math.sqrt(2 / (4 * 96)))
    close(found["blocks.1.mlp.up.weight"], math.sqrt(2 / (96 + 256)))
    for name in ("norm_1", "norm_2"):
        assert not found[f"blocks.0.{name}.weight"].any()
    assert (found["norm_post.weight"] == 1).all()


def test_unknown_tables_are_refused():
    with pytest.raises(UnknownNameError, match="no initial table of an EVA .* 'eva03'"):
        drawn(FIRST, "eva03")
    with pytest.raises(ConfigError, match="a VisionTransformer has but its own table"):
        drawn(VitConfig(image_size=32, patch_size=8, width=32, layers=1, heads=2), "eva01")
