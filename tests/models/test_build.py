"""Models from configurations, and what the model of two towers gives."""

import math

import pytest
import torch
from torch import nn

from diptych import pretrained
from diptych.config import ClipConfig
from diptych.errors import ConfigError
from diptych.families.clip import ResNetConfig
from diptych.families.clip import pretrained as clip_models
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.families.timm import TimmConfig
from diptych.models import Clip, build, build_tower
from tests.models.peers import RESNET, TEXT, VIT, captions

SMALL = ClipConfig(image=VIT, text=TEXT, embed_dim=24)
BIASED = ClipConfig(image=VIT, text=TEXT, embed_dim=24, logit_scale=math.log(10), logit_bias=-10.0)


def test_the_seed_makes_the_weights():
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(build(SMALL).state_dict())
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])
    assert not torch.equal(
        models[0]["image.projection.weight"], models[2]["image.projection.weight"]
    )


def test_initial_scale_and_bias_are_the_configurations():
    model = build(BIASED)
    assert model.logit_scale.shape == model.logit_bias.shape == (1,)
    assert model.logit_scale.exp().item() == pytest.approx(10)
    assert model.logit_bias.item() == -10
    assert build(SMALL).logit_bias is None
    assert "logit_bias" not in build(SMALL).state_dict()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype(dtype):
    model = build(SMALL, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model.encode_image(torch.randn(2, 3, 32, 32, dtype=dtype)).dtype == dtype
    assert model.encode_text(captions()).dtype == dtype


@pytest.mark.parametrize("name", ["vit-l-14-336", "rn101", "tiny"])
def test_meta_costs_no_memory(name):
    model = build(pretrained.get(name), device="meta")
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def test_forward_on_meta():
    model = build(pretrained.get("vit-l-14-quickgelu"), device="meta")
    images, texts = model(
        torch.zeros(5, 3, 224, 224, device="meta"),
        torch.zeros(3, 9, dtype=torch.long, device="meta"),
    )
    assert images.shape == (5, 768)
    assert texts.shape == (3, 768)


def test_meta_then_assign_equals_build():
    torch.manual_seed(0)
    model = build(ClipConfig(image=RESNET, text=TEXT)).eval()
    other = build(model.config, device="meta").eval()
    other.load_state_dict(model.state_dict(), assign=True)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(other.encode_image(x), model.encode_image(x))


def test_convolutions_are_channels_last_however_they_came():
    config = ClipConfig(image=RESNET, text=TEXT)
    model, other = build(config), build(config, device="meta")
    plain = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    other.load_state_dict(plain, assign=True)
    for tower in (model.image, other.image):
        kernels = [parameter for parameter in tower.parameters() if parameter.ndim == 4]
        assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_bridged_towers_take_weights_without_init():
    options = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = ClipConfig(
        image=TimmConfig(name="resnet10t", image_size=64),
        text=HuggingFaceTextConfig(
            model_type="bert", options=options | {"vocab_size": 40}, context_length=12
        ),
        embed_dim=8,
    )
    model = build(config).eval()
    pixels, ids = torch.randn(2, 3, 64, 64), captions()
    images, texts = model(pixels, ids)
    assert (images.shape, texts.shape) == ((2, 8), (4, 8))
    other = build(config, init=False).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(pixels, ids)[0], images)
    assert torch.equal(other(pixels, ids)[1], texts)


def test_unit_length_and_logits():
    torch.manual_seed(0)
    model = build(BIASED).eval()
    pixels, ids = torch.randn(2, 3, 32, 32), captions(3)
    images, texts = model(pixels, ids)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(images, nn.functional.normalize(model.encode_image(pixels), dim=1))
    torch.testing.assert_close(texts, nn.functional.normalize(model.encode_text(ids), dim=1))
    torch.testing.assert_close(model.logits(images, texts), 10 * images @ texts.T - 10)


def towers_of(config):
    if not isinstance(config, ClipConfig):
        return {"image": config}
    found = {"image": config.image, "text": config.text, "decoder": config.decoder}
    return {name: tower for name, tower in found.items() if tower is not None}


def smallest_of_each_kind() -> set[str]:
    """Of all published models whose towers are of the same classes, and in timm of the same
    line."""
    found = dict[tuple, str]()
    for name in sorted(pretrained.names(), key=lambda name: -pretrained.sizes(name)["all"][0]):
        towers = towers_of(pretrained.entry(name).config).values()
        lines = [t.name.split("_")[0] if isinstance(t, TimmConfig) else type(t) for t in towers]
        found[tuple(lines)] = name
    return {*found.values()}


SMALLEST = smallest_of_each_kind()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in SMALLEST else pytest.mark.slow)
        for name in pretrained.names()
    ],
)
def test_every_published_name_builds_with_the_sizes_that_are_recorded(name):
    config = pretrained.entry(name).config
    if isinstance(config, ClipConfig):
        model = build(config, device="meta")
        assert isinstance(model, Clip)
        parts = {part: model.get_submodule(part) for part in towers_of(config)}
    else:
        model = build_tower(config, None, "meta")
        parts = {"image": model}
    assert all(p.is_meta for p in model.parameters())
    flops = {part: tower.flops() for part, tower in parts.items()}
    assert pretrained.sizes(name) == {"all": (parameters(model), sum(flops.values()))} | {
        part: (parameters(tower), flops[part]) for part, tower in parts.items()
    }


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_tiny_is_small():
    model = build(pretrained.get("tiny"), device="meta")
    assert sum(p.numel() for p in model.image.parameters()) < 800_000
    assert sum(p.numel() for p in model.text.parameters()) < 5_200_000


def test_autocast_keeps_the_answer():
    torch.manual_seed(0)
    model, ids = build(clip_models.quick(SMALL)).eval(), captions()
    pixels = torch.randn(4, 3, 32, 32)
    exact = model(pixels, ids)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(pixels, ids)
    for a, b in zip(exact, rough):
        torch.testing.assert_close(b.norm(dim=1), torch.ones(4))
        assert (a * b).sum(dim=1).min() > 0.999


def test_heads_that_do_not_divide_the_attention_pool_are_refused():
    with pytest.raises(ConfigError, match="32 times as wide as width 6, .* multiple of heads 7"):
        ResNetConfig(width=6, heads=7)
