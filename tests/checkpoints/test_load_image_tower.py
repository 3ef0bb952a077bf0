"""Towers alone: out of whole models, and out of files that hold nothing else."""

from dataclasses import replace

import pytest
import torch

from diptych import models, pretrained
from diptych.checkpoints import detect, load_image_tower, load_model
from diptych.checkpoints.content import read
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import open_clip
from diptych.families.eva.layouts import eva
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.weights.native import save_model
from tests.families.eva.small import MODELS

EVA = MODELS["eva02-b"]


@pytest.fixture
def files(tmp_path, random_model, vit):
    """Whole models and halves of them, in several layouts."""
    torch.save(
        eva.export_table(EVA.image).to_foreign(random_model(EVA).state_dict()), tmp_path / "eva.pt"
    )
    whole = torch.load(tmp_path / "eva.pt")
    alone = {
        n.removeprefix("visual."): t
        for n, t in whole.items()
        if n.startswith("visual.") and ".head." not in n
    }
    torch.save(alone | {"mask_token": torch.zeros(1, 1, 32)}, tmp_path / "image.pt")
    torch.save({n: t for n, t in whole.items() if n.startswith("visual.")}, tmp_path / "half.pt")
    torch.save({n: t for n, t in whole.items() if n.startswith("text.")}, tmp_path / "text.pt")
    open_clip.export(tmp_path / "vit", vit, random_model(vit).state_dict())
    save_model(tmp_path / "native", random_model(vit))
    return tmp_path


def test_the_image_tower_of_a_whole_model(files, vit, random_model, example):
    pixels = example(vit)[0]
    for name in ("vit", "native"):
        tower, config, _ = load_image_tower(files / name)
        assert config == vit.image == tower.config
        assert not tower.training
        with torch.inference_mode():
            assert torch.equal(
                tower(pixels, tokens="none").pooled, random_model(vit).encode_image(pixels)
            )
    assert load_image_tower(files / "vit").provenance["format"] == "open-clip"


@pytest.mark.parametrize("name", ["eva.pt", "half.pt", "image.pt"])
def test_evas_image_tower(files, random_model, example, name):
    pixels = example(EVA)[0]
    tower, config, notes = load_image_tower(files / name, config=EVA.image)
    assert config == EVA.image
    assert notes.get("unused", []) == (["mask_token"] if name == "image.pt" else [])
    model = random_model(EVA)
    with torch.inference_mode():
        tokens = model.image(pixels).tokens
        assert torch.equal(tower(pixels).tokens, tokens)
        expected = model.encode_image(pixels) if name != "image.pt" else model.image(pixels).feature
        torch.testing.assert_close(tower(pixels).pooled, expected, atol=1e-6, rtol=1e-6)


def test_size_dtype_and_a_models_configuration(files):
    tower, config, _ = load_image_tower(
        files / "eva.pt", config=EVA, dtype=torch.bfloat16, image_size=64, patch_size=16
    )
    assert (config.image_size, config.patch_size) == (64, 16)
    assert tower(torch.zeros(1, 3, 64, 64, dtype=torch.bfloat16)).pooled.dtype == torch.bfloat16


def test_what_does_not_say_how_it_is_built(files):
    with pytest.raises(CheckpointError, match="no published EVA tower .* give config="):
        load_image_tower(files / "image.pt")
    content = read(files / "text.pt", "text")
    state, config = content.state, content.config
    assert config is None
    assert state["tokens.weight"].shape == (60, 32)


def test_the_wrong_half_is_named(files, vit):
    with pytest.raises(
        CheckpointError, match="holds no image tower that Diptych knows: .* begin with text."
    ):
        load_image_tower(files / "text.pt", config=EVA.image)
    with pytest.raises(CheckpointError, match="is it a checkpoint of another tower"):
        load_image_tower(files / "eva.pt", config=vit.image)
    with pytest.raises(CheckpointError, match="no published EVA tower.*give config="):
        load_model(files / "image.pt")
    assert detect(files / "image.pt") == "eva-image"


def test_a_half_is_the_model_that_its_tower_is(files):
    """By the configuration of the whole one, inputs included."""
    for name, missing in (("half.pt", "text"), ("image.pt", "text"), ("text.pt", "image")):
        config = load_model(files / name, config=EVA).config
        assert config.missing == missing
        assert (config.preprocess, config.tokenizer) == (EVA.preprocess, EVA.tokenizer)


def test_names_of_towers(files):
    with pytest.raises(CheckpointError, match="is it a checkpoint of another tower"):
        load_image_tower(files / "image.pt", config="eva02-b-psz14to16")


def test_a_model_with_a_text_tower_of_another_library(tmp_path, vit):
    options = {
        "vocab_size": 60,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = HuggingFaceTextConfig(
        model_type="bert", options=options | {"intermediate_size": 64}, context_length=8
    )
    save_model(tmp_path / "out", models.build(replace(vit, text=text)))
    assert load_image_tower(tmp_path / "out").config == vit.image


@pytest.mark.parametrize("name", ["eva01-g-psz14", "eva-18b-psz14"])
def test_full_size_image_towers_are_built_without_numbers(name):
    tower = models.build_tower(pretrained.tower(name), None, "meta")
    assert all(p.is_meta for p in tower.parameters())
