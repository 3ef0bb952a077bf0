"""Towers and layers act when they are called, in every use: hooks fire, adapters and quantised
layers take part."""

import copy
import warnings

import pytest
import torch
from torch import nn

from diptych.batch import Batch
from diptych.config import (
    ClipConfig,
    ClipObjectiveConfig,
    DeclipObjectiveConfig,
    FilipObjectiveConfig,
    SlipObjectiveConfig,
)
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.families.clip.resnet import Bottleneck
from diptych.models import Clip, build
from diptych.nn import StochasticDepth
from diptych.objectives import accumulate, build_objective
from tests.models.peers import captions, shake
from tests.models.test_towers import ALL, BATCH_NORMALISED, example, make

IMAGES = {name: config for name, config in ALL.items() if "text" not in name and "bert" not in name}
TEXTS = {name: config for name, config in ALL.items() if name not in IMAGES}
PAIRS = [(image, "text, quick_gelu") for image in IMAGES] + [("vit", text) for text in TEXTS]
ADAPTED = ("qkv", "up", "down", "gate_up", "out")
every_pair = pytest.mark.parametrize(("image", "text"), PAIRS)


def model_of(image: str, text: str) -> Clip:
    torch.manual_seed(0)
    model = build(ClipConfig(image=ALL[image], text=ALL[text], embed_dim=6))
    shake(model)
    return model.eval()


def count_calls(model: Clip) -> list[str]:
    """A list that grows by a tower's name with each of its calls."""
    calls: list[str] = []
    for name in ("image", "text"):
        tower = model.get_submodule(name)
        tower.register_forward_hook(lambda *_, name=name: calls.append(name))
    return calls


@every_pair
def test_hooks_see_every_use_of_a_tower(image, text):
    model = model_of(image, text)
    pixels, ids, calls = example(ALL[image]), captions(), count_calls(model)
    model.encode_image(pixels)
    model.encode_text(ids)
    assert calls == ["image", "text"]
    model(pixels, ids)
    assert calls == 2 * ["image", "text"]


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_hooks_see_a_training_step(image, micro_batches):
    """With micro-batches, each of them twice: for its features, and for the gradient."""
    if micro_batches > 1 and image in BATCH_NORMALISED:
        return  # accumulation refuses these
    model = model_of(image, "text").train()
    objective, calls = build_objective(ClipObjectiveConfig(), model), count_calls(model)
    batch = Batch(images=(example(ALL[image]),), texts=(captions(),), index=torch.arange(4))
    parts = [batch.rows(i, i + 4 // micro_batches) for i in range(0, 4, 4 // micro_batches)]
    accumulate(objective, objective, parts, Peers())
    passes = 1 if micro_batches == 1 else 2 * micro_batches
    assert calls.count("image") == calls.count("text") == passes


@pytest.mark.parametrize(
    "config",
    [SlipObjectiveConfig(), FilipObjectiveConfig(), DeclipObjectiveConfig(queue=8)],
    ids=["slip", "filip", "declip"],
)
def test_hooks_see_the_steps_of_other_objectives(config):
    small = ClipConfig(image=ALL["vit"], text=ALL["text"], embed_dim=6, token_dim=5)
    model = build(small).train()
    objective, calls = build_objective(config, model), count_calls(model)
    views, ids = objective.views, captions()
    batch = Batch(
        images=tuple(example(ALL["vit"]) for _ in views.image),
        texts=tuple(ids for _ in views.text),
        index=torch.arange(4),
        mlm_labels=torch.where(torch.arange(12) == 1, ids, -100),
    )
    losses = accumulate(objective, objective, [batch], Peers())
    assert losses.total.isfinite()
    assert calls.count("image") == 1, "all views in one call"
    assert "text" in calls


def adapt(model: Clip) -> dict[str, nn.Module]:
    """LoRA in every layer of a name in `ADAPTED` within the towers' blocks, and in patch
    projections: from the layer's name to what stands there now."""
    import peft

    blocks = {id(block) for tower in (model.image, model.text) for block in tower.blocks}
    inside = [name for name, module in model.named_modules() if id(module) in blocks]
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and name.split(".")[-1] in ADAPTED
        and any(name.startswith(f"{block}.") for block in inside)
    ]
    names += [name for name, _ in model.named_modules() if name == "image.patch"]
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=names), model)
    return {name: model.get_submodule(name) for name in names}


OURS = [pair for pair in PAIRS if "timm" not in pair[0] and "hugging" not in pair[1]]


@pytest.mark.parametrize(("image", "text"), OURS)
def test_adapters_act_in_every_layer(image, text):
    model = model_of(image, text).double()
    pixels, ids = example(ALL[image]).double(), captions()
    before = model.encode_image(pixels), model.encode_text(ids)
    adapted = adapt(model)
    for tower in (model.image, model.text):
        for i, block in enumerate(tower.blocks):
            inside = {id(module) for module in block.modules()}
            here = [name for name, layer in adapted.items() if id(layer) in inside]
            assert isinstance(block, Bottleneck) or len(here) >= 4, (tower, i)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(pixels), before[0])
        for name, layer in adapted.items():
            layer.lora_B["default"].weight.normal_()
            encode, x, old = (
                (model.encode_image, pixels, before[0])
                if name.startswith("image.")
                else (model.encode_text, ids, before[1])
            )
            assert (encode(x) - old).abs().max() > 1e-8, name
            layer.lora_B["default"].weight.zero_()


@pytest.mark.parametrize(("image", "text"), OURS)
def test_adapters_train_in_every_layer(image, text):
    model = model_of(image, text)
    adapted = adapt(model)
    for layer in adapted.values():
        nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    model.train()
    objective = build_objective(ClipObjectiveConfig(), model)
    batch = Batch(images=(example(ALL[image]),), texts=(captions(),), index=torch.arange(4))
    accumulate(objective, objective, [batch], Peers())
    for name, layer in adapted.items():
        for part in (layer.lora_A, layer.lora_B):
            assert part["default"].weight.grad.abs().max() > 0, name
        assert layer.base_layer.weight.grad is None, "LoRA leaves the layer itself as it is"


@every_pair
def test_dynamic_quantisation_stays_near(image, text):
    model = model_of(image, text)
    with warnings.catch_warnings():  # torch would rather have another package used
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear})
        assert not any(type(module) is nn.Linear for module in quantised.modules())
        pixels, ids = example(ALL[image]), captions()
        with torch.no_grad():
            for rough, exact in zip(quantised(pixels, ids), model(pixels, ids), strict=True):
                assert (rough * exact).sum(dim=1).min() > 0.98
                assert not torch.equal(rough, exact)


def test_patch_dropout_can_be_set():
    for name in ("vit", "eva, 02-l"):
        tower, x = make(name).train(), example(ALL[name])
        tower.set_patch_dropout(0.5)
        assert tower(x).tokens.shape[1] == 1 + 8
        tower.set_patch_dropout(0.0)
        assert tower(x).tokens.shape[1] == 1 + 16
    with pytest.raises(ConfigError, match="patch_dropout 1.0 must lie in"):
        tower.set_patch_dropout(1.0)


@pytest.mark.parametrize("name", ["resnet", "unireplknet", "text", "timm, vit"])
def test_a_tower_without_patches_to_drop_says_so(name):
    with pytest.raises(ConfigError, match=r"^patch_dropout: a \w+ drops no patches$"):
        make(name).set_patch_dropout(0.5)


@pytest.mark.parametrize("name", ["eva, 01-g", "unireplknet"])
def test_stochastic_depth_rises_with_the_blocks(name):
    tower = make(name)
    tower.set_stochastic_depth(0.3)
    assert rates(tower) == pytest.approx(torch.linspace(0, 0.3, len(tower.blocks)).tolist())
    with pytest.raises(ConfigError, match="stochastic_depth -1.0 must lie in"):
        tower.set_stochastic_depth(-1.0)


def rates(tower):
    return [module.rate for module in tower.modules() if isinstance(module, StochasticDepth)]


@pytest.mark.parametrize("name", ["vit", "resnet", "text", "hugging face, bert"])
def test_a_tower_without_branches_to_leave_out_says_so(name):
    with pytest.raises(ConfigError, match=r"^stochastic_depth: a \w+ leaves out no branches$"):
        make(name).set_stochastic_depth(0.1)
