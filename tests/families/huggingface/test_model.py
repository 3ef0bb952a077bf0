"""What stands behind a text model of the hub, where its tokens have a width of their own."""

from dataclasses import replace

import pytest
import torch

from diptych.errors import ConfigError
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.families.huggingface.known import bert
from diptych.models import build_tower

pytest.importorskip("transformers")

PLAIN = HuggingFaceTextConfig(
    model_type="bert", options=bert(50, width=16, layers=1, heads=2).options, context_length=8
)
WIDE = replace(PLAIN, token_width=24, pool="cls")
IDS = torch.tensor([[5, 6, 7, 0]])


def test_tokens_are_as_wide_as_they_are_said_to_be():
    tower = build_tower(WIDE, 12)
    tower.init()
    assert (tower.width, tower.feature_width) == (24, 24)
    found = tower(IDS)
    assert found.tokens.shape == (1, 4, 24)
    assert tower(IDS, tokens="none").tokens.shape == (1, 0, 24)
    assert torch.equal(found.feature, found.tokens[:, 0])
    assert torch.equal(tower.projection(found.feature), found.pooled)
    assert not tower.transform.linear.bias.any()
    plain = build_tower(replace(WIDE, token_width=None), 12)
    assert tower.flops() - plain.flops() == 2 * (8 * 16 * 24 + 12 * (24 - 16))


def test_it_stands_behind_the_last_block_and_learns():
    tower = build_tower(WIDE, 12)
    assert tower.layer_of("transform.linear.weight") == tower.layers
    assert tower.layer_groups()[-1] == ["projection.weight"]
    assert {"transform.norm.weight", "transform.linear.bias"} <= tower.no_decay
    tower(IDS).pooled.sum().backward()
    assert all(parameter.grad is not None for parameter in tower.transform.parameters())


def test_without_projection_the_space_is_as_wide_as_the_tokens():
    config = replace(WIDE, projection="none")
    assert torch.equal(*build_tower(config, 24)(IDS)[1:])
    assert torch.equal(*build_tower(config, None)(IDS)[1:])
    with pytest.raises(ConfigError, match="embed_dim must be its width, 24, and is 12"):
        build_tower(config, 12)
    with pytest.raises(ConfigError, match="no tower without a projection"):
        build_tower(WIDE, None)


def test_the_trunks_own_pool_has_the_trunks_width():
    with pytest.raises(ConfigError, match="with token_width 24 the pool must be mean, max, cls"):
        replace(WIDE, pool="head")
