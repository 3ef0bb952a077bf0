"""Heat maps where the right one is known: a pattern planted in one place of a picture, and as the
text the tower's own vector of a picture that is this pattern everywhere."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import layer_norm, normalize

from diptych.errors import ConfigError
from diptych.families.clip import ResNetConfig, VitConfig
from diptych.families.coca import CocaImageConfig
from diptych.families.eva import EvaConfig
from diptych.families.eva.model import EvaAttention
from diptych.families.pe import PeImageConfig
from diptych.families.siglip import SiglipImageConfig
from diptych.families.timm import TimmConfig
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.models import build_tower
from diptych.models.heat import attention_weights, heat_maps, patch_vectors
from diptych.nn import Attention, QueryPool

SIZES = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 1, "mlp_width": 64}
VIT, EVA = VitConfig(**SIZES, pre_norm=False), EvaConfig(**SIZES)
CASES = {
    "class token": (VIT, 16),
    "patches' mean": (replace(VIT, pool="mean"), 16),
    "EVA-01": (EVA, 16),
    "EVA-02": (replace(EVA, mlp="swiglu", attention_norm=True, rotary_grid=4), 16),
    "EVA, norm behind": (replace(EVA, norm_place="post"), 16),
    "SigLIP's pool": (SiglipImageConfig(**SIZES), 64),
    "PE's pool": (PeImageConfig(**SIZES, class_token=False, pool_mlp_width=64), 16),
    "CoCa's pool": (CocaImageConfig(**SIZES, queries=3, pool_heads=2), 16),
}
ROW, COLUMN = 1, 2


def made(config, width):
    """A tower with the values before training; the same each time."""
    torch.manual_seed(0)
    tower = build_tower(config, width)
    tower.init()
    return tower.eval()


def planted(side, cell):
    """A noisy picture with a pattern in one cell, and one that is the pattern everywhere."""
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randn(3, cell, cell, generator=generator)
    everywhere = pattern.repeat(1, side // cell, side // cell)
    picture = torch.randn(3, side, side, generator=generator)
    rows, columns = (slice(place * cell, (place + 1) * cell) for place in (ROW, COLUMN))
    picture[:, rows, columns] = pattern
    return picture[None], everywhere[None]


def without_places(config, width):
    """A random tower without positions, biases and class token, whose perceptrons and all but whose
    last attention add nothing: of a picture that is one pattern everywhere, its vector is that of
    the pattern."""
    tower = made(config, width)
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            # Where a pool or a mean reads the patches, no block may mix them.
            last = name.startswith("blocks.1.attention.out") and tower.class_tokens > 0
            blocked = ".attention.out." in name and not last
            table = name in ("positions", "class_token")
            if table or name.endswith("bias") or ".mlp.down." in name or blocked:
                parameter.zero_()
    return tower


@pytest.mark.parametrize("case", CASES)
def test_a_planted_pattern_is_where_it_is(case):
    config, width = CASES[case]
    tower = without_places(config, width)
    picture, everywhere = planted(32, 8)
    with torch.no_grad():
        text = normalize(tower(everywhere).pooled, dim=-1)
    [[found]] = heat_maps(tower, picture, text)
    assert found.shape == (4, 4)
    assert divmod(int(found.argmax()), 4) == (ROW, COLUMN)
    others = torch.cat([found.flatten()[:6], found.flatten()[7:]])
    assert others.max() < 0.9
    if case != "CoCa's pool":  # whose class token is read beside the patches
        assert found[ROW, COLUMN] == pytest.approx(1, abs=1e-5)
    assert torch.allclose(found, normalize(patch_vectors(tower, picture)[0], dim=-1) @ text[0])


def test_a_resnets_vector_is_the_mean_of_its_places_where_it_attends_evenly():
    config = ResNetConfig(image_size=128, layers=(1, 1, 1, 1), width=16, heads=4)
    tower = made(config, 16)
    # Without queries all keys weigh the same, and without positions and biases the mean's value is
    # the mean of the values.
    for parameter in (tower.pool.q.weight, tower.pool.positions):
        nn.init.zeros_(parameter)
    pixels = torch.randn(1, 3, 128, 128)
    vectors = patch_vectors(tower, pixels)
    assert vectors.shape == (1, 4, 4, 16)
    assert torch.allclose(vectors.mean((1, 2)), tower(pixels).pooled, atol=1e-5)
    # A place whose features are the others' opposite has the opposite number.
    tokens = torch.randn(1, 1, 512).repeat(1, 16, 1)
    tokens[:, 6] *= -1
    _, of_places = tower.pool(tokens, values=True)
    cosines = normalize(of_places[0], dim=-1) @ normalize(of_places[0, 0], dim=-1)
    assert torch.allclose(cosines, torch.where(torch.arange(16) == 6, -1.0, 1.0), atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [Attention(16, 4), EvaAttention(EvaConfig(width=16, heads=4, attention_norm=True))],
    ids=["plain", "eva"],
)
def test_a_token_that_sees_itself_alone_gives_its_value(layer):
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 5, 16)
    alone = torch.stack([layer(x[:, i : i + 1])[:, 0] for i in range(5)], dim=1)
    assert torch.allclose(layer(x, values=True), alone, atol=1e-5)


def test_attention_weights_are_the_shares_by_which_values_are_read():
    torch.manual_seed(0)
    layer, x = Attention(16, 4), torch.randn(2, 5, 16)
    shares = layer.weights(x)
    assert shares.shape == (2, 4, 5, 5)
    assert torch.allclose(shares.sum(-1), torch.ones(2, 4, 5))
    v = layer.qkv(x)[..., 32:].unflatten(-1, (4, 4)).transpose(1, 2)
    assert torch.allclose(layer.out((shares @ v).transpose(1, 2).flatten(2)), layer(x), atol=1e-5)
    pool = QueryPool(width=16, heads=4, mlp_width=8, activation="gelu", eps=1e-6)
    nn.init.normal_(pool.query)
    shares, v = pool.weights(x), pool.qkv(x)[..., 32:].unflatten(-1, (4, 4)).transpose(1, 2)
    read = pool.out((shares @ v).flatten(1))
    assert torch.allclose(read + pool.mlp(pool.norm(read)), pool(x), atol=1e-5)


@pytest.mark.parametrize("case", ["class token", "EVA-02", "PE's pool"])
def test_a_towers_attention_weights_come_layer_by_layer(case):
    config, width = CASES[case]
    layers = attention_weights(made(config, width), torch.randn(1, 3, 32, 32))
    tokens = 16 if case == "PE's pool" else 17
    shapes = [(1, 1, tokens, tokens)] * 2 + [(1, 8, 1, 16)] * (case == "PE's pool")
    assert [tuple(layer.shape) for layer in layers] == shapes
    for layer in layers:
        assert torch.allclose(layer.sum(-1), torch.ones(layer.shape[:-1]), atol=1e-5)


def gradient(of_mean, mean, text):
    """Of the cosine of a vector and a text, by what the vector is made of."""
    mean = mean.detach().requires_grad_()
    cosine = normalize(of_mean(mean), dim=-1) @ text
    return torch.autograd.grad(cosine, mean)[0]


def test_a_convolutional_nets_map_is_grad_cams():
    sizes = {"depths": (1, 1, 1, 1), "widths": (8, 8, 16, 16)}
    config = UniRepLKNetConfig(**sizes, kernel_sizes=((3,), (13,), (13,), (13,)))
    tower = made(config, 6)
    texts = normalize(torch.randn(2, 6), dim=-1)
    pixels = torch.randn(1, 3, 64, 64)
    [maps] = heat_maps(tower, pixels, texts)
    assert maps.shape == (2, 2, 2)
    # The vector is made of the mean alone, so each place has a quarter of the mean's gradient.
    tokens = tower(pixels).tokens[0].detach()
    norm = tower.norm_post
    slope = gradient(
        lambda m: tower.projection(layer_norm(m, (16,), norm.weight, norm.bias, 1e-6)),
        tokens.mean(0),
        texts[1],
    )
    wanted = (tokens @ (slope / 4)).relu().unflatten(0, (2, 2))
    assert torch.allclose(maps[1], wanted, atol=1e-6)
    assert wanted.max() > 0


def test_a_timm_nets_map_is_grad_cams_of_its_last_grid():
    tower = made(TimmConfig(name="test_convnext", image_size=96), 6)
    pixels, text = torch.randn(1, 3, 96, 96), normalize(torch.randn(1, 6), dim=-1)
    grid = tower.trunk.forward_features(pixels).detach().requires_grad_()
    vector = tower.projection(tower.trunk.forward_head(grid, pre_logits=True))[0]
    [slope] = torch.autograd.grad(normalize(vector, dim=-1) @ text[0], grid)
    wanted = (grid * slope.mean((2, 3), keepdim=True)).sum(1).relu()
    assert torch.allclose(heat_maps(tower, pixels, text)[0], wanted, atol=1e-6)
    with pytest.raises(ConfigError, match="no vectors of their own"):
        patch_vectors(tower, pixels)
    with pytest.raises(ConfigError, match="no attention that Diptych computes"):
        attention_weights(tower, pixels)


def test_a_timm_transformer_that_reads_a_class_token_is_asked_before_its_last_block():
    tower = made(TimmConfig(name="test_vit", image_size=160), 6)
    pixels, text = torch.randn(1, 3, 160, 160), normalize(torch.randn(1, 6), dim=-1)
    [[found]] = heat_maps(tower, pixels, text)
    tokens, pooled, first = tower.read_tokens(pixels)
    assert (tokens.shape[1], first) == (1 + 10 * 10, 1)
    assert torch.allclose(pooled, tower(pixels).pooled, atol=1e-5)
    before = tokens.detach().requires_grad_()
    last = tower.trunk.norm(tower.trunk.blocks[-1](before))
    vector = tower.projection(tower.trunk.forward_head(last, pre_logits=True))[0]
    [slope] = torch.autograd.grad(normalize(vector, dim=-1) @ text[0], before)
    wanted = (before[0, 1:] * slope[0, 1:].mean(0)).sum(-1).relu().unflatten(0, (10, 10))
    assert torch.allclose(found, wanted, atol=1e-6)
    assert found.max() > 0


def test_a_tower_whose_vector_comes_of_no_token_is_refused():
    tower = without_places(VIT, 16)
    tower.patch_vectors = lambda pixels: None
    tower.read_tokens = lambda pixels: (
        torch.zeros(1, 4, 8).requires_grad_(),
        tower(pixels).pooled,
        0,
    )
    with pytest.raises(ConfigError, match="implement its patch_vectors or read_tokens"):
        heat_maps(tower, torch.randn(1, 3, 32, 32), torch.ones(1, 16))
