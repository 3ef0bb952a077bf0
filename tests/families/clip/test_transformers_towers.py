"""Towers alone as transformers saves them, in the names of its versions 4 and 5."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych.checkpoints import detect, load_image_tower, load_model, start_tower
from diptych.config import ClipConfig
from diptych.errors import CheckpointError
from diptych.families.clip import TextConfig, VitConfig

transformers = pytest.importorskip("transformers")

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": 32,
}
IMAGE = VitConfig(
    image_size=32,
    patch_size=16,
    width=64,
    layers=2,
    heads=4,
    mlp_width=128,
    activation="quick_gelu",
)
TEXT = TextConfig(
    context_length=12,
    vocab_size=60,
    width=64,
    layers=2,
    heads=4,
    mlp_width=128,
    activation="quick_gelu",
)


@pytest.fixture(params=["CLIPVisionModel", "CLIPVisionModelWithProjection"])
def vision(request, randomise, tmp_path, quiet):
    cfg = transformers.CLIPVisionConfig(image_size=32, patch_size=16, **SIZES)
    model = randomise(getattr(transformers, request.param)(cfg))
    model.save_pretrained(tmp_path / "in")
    return model, tmp_path / "in"


def rename(folder, change):
    file = folder / "model.safetensors"
    save_file({change(name): tensor for name, tensor in load_file(file).items()}, file)


@pytest.mark.parametrize("version", [4, 5])
def test_an_image_tower_alone(vision, version):
    theirs, folder = vision
    if version == 4 and "Projection" not in type(theirs).__name__:
        rename(folder, lambda name: f"vision_model.{name.removeprefix('vision_model.')}")
    for config in (None, folder / "config.json"):
        tower, found, _ = load_image_tower(folder, config=config)
        assert found == IMAGE
        pixels = torch.randn(2, 3, 32, 32)
        with torch.inference_mode():
            made, wanted = tower(pixels), theirs(pixel_values=pixels)
            pooled = wanted.get("image_embeds", wanted.get("pooler_output"))
            torch.testing.assert_close(made.pooled, pooled, atol=1e-5, rtol=1e-5)
    assert detect(folder) == "transformers"


@pytest.mark.parametrize("name", ["CLIPTextModel", "CLIPTextModelWithProjection"])
def test_a_text_tower_alone_is_called_transformers_and_can_be_started_from(
    name, randomise, random_model, tmp_path, quiet
):
    cfg = transformers.CLIPTextConfig(
        vocab_size=60, max_position_embeddings=12, eos_token_id=59, **SIZES
    )
    randomise(getattr(transformers, name)(cfg)).save_pretrained(tmp_path / "in")
    assert detect(tmp_path / "in") == "transformers"
    model = random_model(ClipConfig(image=IMAGE, text=TEXT, embed_dim=32))
    said = start_tower(model.text, "text", tmp_path / "in")
    assert ("projection.weight is left fresh" in "".join(said)) == (name == "CLIPTextModel")
    weights = load_file(tmp_path / "in" / "model.safetensors")
    theirs = next(t for name, t in weights.items() if name.endswith("token_embedding.weight"))
    assert torch.equal(model.text.tokens.weight, theirs)


def test_a_model_without_its_scale_is_no_tower(randomise, tmp_path, quiet):
    cfg = transformers.CLIPConfig(
        text_config=SIZES | {"vocab_size": 60, "max_position_embeddings": 12, "eos_token_id": 59},
        vision_config=SIZES | {"image_size": 32, "patch_size": 16},
        projection_dim=32,
    )
    model = randomise(transformers.CLIPModel(cfg))
    model.save_pretrained(tmp_path / "in")
    file = tmp_path / "in" / "model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if n != "logit_scale"}, file)
    with pytest.raises(
        CheckpointError, match=r"both towers of a model \(transformers\) but no logit_scale"
    ):
        load_model(tmp_path / "in")
    assert load_image_tower(tmp_path / "in").config == IMAGE


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("base_model.model.visual.x.lora_A.weight",), r"an adapter .*merge_and_unload\(\)"),
    ],
)
def test_what_only_begins_as_clip_is_called_by_its_name(names, said, tmp_path):
    save_file({name: torch.ones(1) for name in names}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    for reader in (load_model, load_image_tower):
        with pytest.raises(CheckpointError, match=said):
            reader(tmp_path)


@pytest.mark.parametrize("dynamic", ["image", "text"])
def test_towers_are_exported_for_any_number_of_inputs(dynamic, random_model, example):
    """`torch.export` keeps the batch open."""
    model = random_model(ClipConfig(image=IMAGE, text=TEXT, embed_dim=32))
    tower = model.image if dynamic == "image" else model.text
    given = example(model.config)[0 if dynamic == "image" else 1]
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(tower, (given,), dynamic_shapes={"x": {0: batch}})
    more = given.repeat(3, *[1] * (given.ndim - 1))
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(more).pooled, tower(more).pooled)
