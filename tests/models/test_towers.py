"""What holds for every tower, whatever its configuration."""

import copy

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diptych.errors import ConfigError
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig
from diptych.families.clip.resnet import ResNet
from diptych.families.clip.text import TextTransformer
from diptych.families.eva import EvaConfig
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.families.huggingface.model import HuggingFaceText
from diptych.families.timm import TimmConfig
from diptych.families.timm.model import TimmTower
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.families.unireplknet.model import UniRepLKNet
from diptych.models import build_tower
from tests.forked import Script
from tests.models.peers import captions, shake

VIT = {"image_size": 16, "patch_size": 4, "width": 16, "layers": 2, "heads": 2, "mlp_width": 32}
LARGE_KERNEL = {"image_size": 50, "depths": (1, 2, 1, 1), "widths": (16, 16, 24, 32)}
LARGE_KERNEL |= {"kernel_sizes": ((3,), (7, 0), (13,), (5,)), "layer_scale": 0.5}
BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 40,
}
SMALL = {"image_size": 16, "patch_size": 4, "width": 16, "layers": 2, "heads": 2, "mlp_width": 30}
GATED = {**SMALL, "mlp": "swiglu", "attention_norm": True, "mlp_norm": True, "rotary_grid": 6}
EVA = {
    "eva, 01-g": EvaConfig(**SMALL),
    "eva, 01-b": EvaConfig(**SMALL, layer_scale=0.1),
    "eva, 02-l": EvaConfig(**GATED),
    "eva, 02-e": EvaConfig(**SMALL, norm_place="post"),
    "eva, 8b": EvaConfig(**SMALL, norm="rms", qkv_bias=False, projection_bias=False),
    "eva, mean": EvaConfig(**SMALL, pool="mean"),
    "eva, patches": EvaConfig(**GATED, pool="patches"),
    "eva, patch dropout": EvaConfig(**GATED),
    "eva, stochastic depth": EvaConfig(**SMALL),
}
NATIVE = {
    **EVA,
    "vit": VitConfig(**VIT),
    "vit, mean": VitConfig(**VIT, pool="mean", activation="quick_gelu"),
    "vit, no pre-norm": VitConfig(**VIT, pre_norm=False),
    "vit, stem": VitConfig(**VIT, stem_widths=(4, 8)),
    "vit, patch dropout": VitConfig(**VIT),
    "resnet": ResNetConfig(image_size=64, layers=(1, 2, 1, 1), width=8, heads=4),
    "unireplknet": UniRepLKNetConfig(**LARGE_KERNEL),
    "unireplknet, stochastic depth": UniRepLKNetConfig(**LARGE_KERNEL),
    "unireplknet, deploy": UniRepLKNetConfig(**LARGE_KERNEL, deploy=True),
    "resnet, linear": ResNetConfig(
        image_size=64, layers=(1, 1, 1, 1), width=8, heads=4, head="linear"
    ),
    "text": TextConfig(context_length=12, vocab_size=40, width=16, layers=2, heads=2, mlp_width=32),
    "text, quick_gelu": TextConfig(
        context_length=12,
        vocab_size=40,
        width=16,
        layers=2,
        heads=2,
        mlp_width=32,
        activation="quick_gelu",
    ),
}
BRIDGED = {
    "timm, vit": TimmConfig(
        name="vit_tiny_patch16_224",
        image_size=32,
        options={"embed_dim": 24, "depth": 2, "num_heads": 2},
    ),
    "timm, resnet": TimmConfig(name="resnet10t", image_size=64),
    "hugging face, bert": HuggingFaceTextConfig(
        model_type="bert",
        options=BERT | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        context_length=12,
    ),
}
ALL = NATIVE | BRIDGED
BATCH_NORMALISED = {
    "vit, stem",
    "resnet",
    "resnet, linear",
    "timm, resnet",
    "unireplknet",
    "unireplknet, stochastic depth",
}

every = pytest.mark.parametrize("name", ALL)
native = pytest.mark.parametrize("name", NATIVE)


def make(name, seed=0):
    torch.manual_seed(seed)
    tower = build_tower(ALL[name], 6)
    tower.init()
    if name.endswith("patch dropout"):
        tower.set_patch_dropout(0.5)
    if name.endswith("stochastic depth"):
        tower.set_stochastic_depth(0.3)
    return tower


def pooled(tower, x):
    """As `encode_image` and `encode_text` have it."""
    return tower(x, tokens="none").pooled


def kinds(tower):
    """The tokens that a tower has."""
    if isinstance(tower, ResNet | TimmTower | HuggingFaceText):
        return ("none", "raw")
    if isinstance(tower, TextTransformer):
        return ("none", "raw", "normed")
    return ("none", "raw", "normed", "projected")


def example(config, rows=4):
    torch.manual_seed(1)
    if isinstance(config, TextConfig | HuggingFaceTextConfig):
        return captions(rows)
    return torch.randn(rows, 3, config.image_size, config.image_size)


@native
def test_init_fills_everything(name):
    tower = build_tower(ALL[name], 6)
    with torch.no_grad():
        for tensor in tower.state_dict().values():
            tensor.fill_(float("nan") if tensor.is_floating_point() else -1)
    tower.init()
    for key, tensor in tower.state_dict().items():
        assert tensor.isfinite().all(), key
        assert (tensor >= 0).all() or tensor.is_floating_point(), key


@native
def test_meta_has_the_same_names_and_shapes(name):
    here, there = make(name).state_dict(), build_tower(ALL[name], 6, device="meta").state_dict()
    assert {key: value.shape for key, value in here.items()} == {
        key: value.shape for key, value in there.items()
    }
    assert all(value.is_meta for value in there.values())


@every
def test_output_shapes(name):
    tower, x = make(name).eval(), example(ALL[name])
    tokens, feature, pooled = tower(x)
    assert pooled.shape == (4, 6)
    assert feature.shape == (4, tower.feature_width)
    assert tokens.ndim == 3
    assert tokens.shape[::2] == (4, tower.width)


@every
def test_feature_and_pooled_are_the_same_whichever_tokens_are_asked_for(name):
    tower, x = make(name).eval(), example(ALL[name])
    shake(tower)
    with torch.no_grad():
        raw = tower(x)
        for kind in kinds(tower):
            _, feature, pooled = tower(x, tokens=kind)
            torch.testing.assert_close(feature, raw.feature, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(pooled, raw.pooled, rtol=1e-5, atol=1e-5)


@every
def test_kinds_of_tokens(name):
    tower, x = make(name).eval(), example(ALL[name])
    shake(tower)
    raw = tower(x).tokens
    assert tower(x, tokens="none").tokens.shape == (4, 0, tower.width)
    assert torch.equal(tower(x, tokens="raw").tokens, raw)
    if "normed" in kinds(tower):
        torch.testing.assert_close(tower(x, tokens="normed").tokens, tower.norm_post(raw))
    else:
        with pytest.raises(ConfigError, match=f"a {type(tower).__name__} has no norm for its tok"):
            tower(x, tokens="normed")
    if "projected" in kinds(tower):
        expected = tower.projection(tower.norm_post(raw))
        torch.testing.assert_close(tower(x, tokens="projected").tokens, expected)
    else:
        with pytest.raises(ConfigError, match="its tokens$"):
            tower(x, tokens="projected")


@every
def test_what_is_projected(name):
    """From the feature to the pooled vector."""
    config = ALL[name]
    tower = make(name).eval()
    shake(tower)
    _, feature, pooled = tower(example(config))
    last = tower.pool.projection if getattr(tower, "projection", None) is None else tower.projection
    torch.testing.assert_close(last(feature), pooled)


@every
def test_two_calls_and_two_builds_are_equal(name):
    tower, x = make(name).eval(), example(ALL[name])
    assert torch.equal(pooled(tower, x), pooled(tower, x))
    assert torch.equal(pooled(make(name).eval(), x), pooled(tower, x))
    assert not torch.equal(pooled(make(name, seed=2).eval(), x), pooled(tower, x))


@every
def test_a_gradient_reaches_every_parameter(name):
    tower, x = make(name).train(), example(ALL[name])
    shake(tower)
    pooled(tower, x).square().sum().backward()
    for key, parameter in tower.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@every
def test_checkpointing_changes_nothing(name):
    plain, x = make(name).train(), example(ALL[name])
    shake(plain)
    saving = copy.deepcopy(plain)
    saving.set_checkpointing()
    for tower in (plain, saving):
        torch.manual_seed(3)
        pooled(tower, x).square().sum().backward()
    for (key, a), b in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=key)
    for (key, a), b in zip(plain.named_buffers(), saving.buffers()):
        assert torch.equal(a, b), key


@every
def test_checkpointing_keeps_fewer_tensors(name):
    tower, x = make(name).train(), example(ALL[name])
    kept = []
    for on in (False, True):
        tower.set_checkpointing(on)
        held = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, held=held: held.append(t.numel()) or t, lambda t: t
        ):
            pooled(tower, x)
        kept.append(sum(held))
    assert kept[1] < 0.8 * kept[0]


@every
def test_batch_statistics_flag_is_true_to_fact(name):
    tower = make(name).train()
    assert tower.batch_statistics == (name in BATCH_NORMALISED)
    if "dropout" in name or "stochastic" in name:
        return
    x = example(ALL[name])
    with torch.no_grad():
        alone, together = pooled(tower, x[:2]), pooled(tower, x)[:2]
    assert torch.allclose(alone, together, atol=1e-5) != tower.batch_statistics


@every
def test_layers_rise_with_depth(name):
    tower = make(name)
    depths = {key: tower.layer_of(key) for key, _ in tower.named_parameters()}
    last = tower.layers
    assert (
        depths["projection.weight" if "projection.weight" in depths else "pool.projection.weight"]
        == last
    )
    assert set(depths.values()) == set(range(last + 1)) if len(tower.blocks) else {1, 0}
    block_of = {
        id(parameter): i
        for i, block in enumerate(tower.blocks, 1)
        for parameter in block.parameters()
    }
    blocks = [
        (block_of[id(p)], depths[key]) for key, p in tower.named_parameters() if id(p) in block_of
    ]
    assert [depth for _, depth in blocks] == sorted(depth for _, depth in blocks)
    if not isinstance(tower, UniRepLKNet):  # which counts several blocks as one layer
        assert all(block == depth for block, depth in blocks)
    with pytest.raises(KeyError):
        tower.layer_of("nothing")


@every
def test_matrices_decay_and_nothing_else(name):
    tower = make(name)
    parameters = dict(tower.named_parameters())
    assert tower.no_decay <= parameters.keys()
    assert all(key in tower.no_decay for key, value in parameters.items() if value.ndim < 2)
    assert all(parameters[key].ndim >= 2 for key in parameters.keys() - tower.no_decay)
    assert "projection.weight" not in tower.no_decay


def test_position_tables_and_class_tokens_do_not_decay():
    assert {"positions", "class_token"} <= make("vit").no_decay
    assert "positions" in make("text").no_decay
    assert "pool.positions" in make("resnet").no_decay
    assert {"trunk.pos_embed", "trunk.cls_token"} <= make("timm, vit").no_decay


@every
def test_flops_equal_what_is_counted(name):
    tower = make(name).eval()
    config = ALL[name]
    if isinstance(config, TextConfig):
        x = torch.zeros(1, config.context_length, dtype=torch.long)
    else:
        x = example(config, rows=1)
    plain = sdpa_kernel(SDPBackend.MATH)  # whose products all versions of torch count
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
        tower(x)
    assert tower.flops() == counter.get_total_flops() > 0
    assert not tower.training


def test_published_flops():
    """Giga multiply-adds of ViT-B/32's image tower as timm lists them: 4.4."""
    assert round(build_tower(VitConfig(), 512, device="meta").flops() / 2e9, 1) == 4.4


def test_wrong_sizes_are_refused():
    with pytest.raises(ConfigError, match="takes 16 x 16"):
        make("vit")(torch.zeros(1, 3, 24, 24))
    with pytest.raises(ConfigError, match="takes 64 x 64"):
        make("resnet")(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ConfigError, match="at most 12"):
        make("text")(torch.zeros(1, 13, dtype=torch.long))
    with pytest.raises(ConfigError, match="at most 12"):
        make("hugging face, bert")(torch.zeros(1, 13, dtype=torch.long))


COMPILE = """
import sys, torch
from tests.models.test_towers import ALL, example, make, pooled

backend, *names = sys.argv[1:]
for name in names:
    torch._dynamo.reset()
    tower, x = make(name).eval(), example(ALL[name])
    with torch.no_grad():
        for function in (lambda x: tower(x).pooled, lambda x: pooled(tower, x)):
            result = torch.compile(function, fullgraph=True, backend=backend)(x)
            torch.testing.assert_close(result, function(x), rtol=1e-4, atol=1e-5)
"""
COMPILED = [
    *EVA,
    "vit",
    "vit, stem",
    "text",
    "text, quick_gelu",
    "resnet",
    "unireplknet",
    "unireplknet, deploy",
]


def compiles(backend: str, *names: str):
    """In a process of its own: the shape checks of these tests can't be compiled."""
    code, _, errors = Script(COMPILE, backend, *names).end(600)
    assert code == 0, errors


def test_is_one_graph():
    """What torch.compile can't follow shows without compiling what it has followed."""
    compiles("eager", "eva, 02-l", "vit", "unireplknet")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_compiles_as_one_graph(name):
    compiles("inductor", name)
