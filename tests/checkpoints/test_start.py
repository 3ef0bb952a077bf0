"""Towers that start from published weights: what fits is copied, what is left out is told, all else
raises."""

from dataclasses import replace

import pytest
import torch

from diptych import models
from diptych.checkpoints import start_tower
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import open_clip, transformers
from diptych.families.eva.layouts import eva
from diptych.families.timm import TimmConfig
from diptych.weights.native import save_model
from diptych.weights.resize import resize_kernel, resize_positions
from tests.families.eva.small import MODELS, TEXT

EVA = MODELS["eva02-b"]
UNTOLD = "it doesn't say its activation, heads and the like: they are taken to be as here"
"""Of towers as small as these."""
BESIDE = {
    "mask_token": torch.zeros(1, 1, 32),
    "lm_head.weight": torch.zeros(5, 32),
    "lm_head.bias": torch.zeros(5),
}


def built(config, embed_dim=24):
    torch.manual_seed(1)
    tower = models.build_tower(config, embed_dim)
    tower.init()
    return tower


def start(tower, side, path):
    """What is said, without the path in front."""
    said = start_tower(tower, side, path)
    assert all(sentence.startswith(f"{path}: ") for sentence in said)
    return [sentence.removeprefix(f"{path}: ") for sentence in said]


def same(tower, state, but=()):
    """Every parameter is that of `state`, except the ones named in `but`, which are as they
    were."""
    before = built(tower.config, tower.projection.out_features).state_dict()
    for name, tensor in tower.state_dict().items():
        assert torch.equal(tensor, (before if name in but else state)[name]), name


@pytest.fixture
def published(tmp_path, random_model):
    """EVA's layout: a whole model, each tower alone, and an image tower from masked image
    modelling."""
    model = random_model(EVA)
    whole = eva.export_table(EVA.image).to_foreign(model.state_dict())
    image = {n.removeprefix("visual."): t for n, t in whole.items() if n.startswith("visual.")}
    masked = {
        n: t for n, t in image.items() if "inner_attn_ln" not in n and not n.startswith("head.")
    } | BESIDE
    contents = {"whole": whole, "image": image, "masked": masked}
    contents["text"] = {n: t for n, t in whole.items() if n.startswith("text.")}
    for name, content in contents.items():
        torch.save({"module": content}, tmp_path / f"{name}.pt")
    return tmp_path, model


@pytest.mark.parametrize("file", ["whole.pt", "image.pt"])
def test_an_image_tower(published, file):
    folder, model = published
    tower = built(EVA.image)
    assert start(tower, "image", folder / file) == [UNTOLD]
    same(tower, model.image.state_dict())
    assert tower.training
    assert all(p.requires_grad for p in tower.parameters())


@pytest.mark.parametrize("file", ["whole.pt", "text.pt"])
def test_a_text_tower(published, file):
    folder, model = published
    tower = built(EVA.text)
    assert start(tower, "text", folder / file) == [UNTOLD]
    same(tower, model.text.state_dict())


def test_from_masked_image_modelling(published):
    folder, model = published
    tower = built(EVA.image)
    said = start(tower, "image", folder / "masked.pt")
    fresh = [
        n for n in tower.state_dict() if n.startswith("projection.") or ".attention.norm." in n
    ]
    same(tower, model.image.state_dict(), but=fresh)
    norm = tower.state_dict()["blocks.0.attention.norm.weight"]
    assert torch.equal(norm, torch.ones_like(norm))
    assert said == [
        "mask_token is not used",
        "lm_head.weight is not used",
        "lm_head.bias is not used",
        UNTOLD,
        "projection.weight is left fresh: it is [24, 32] here, and the file has none",
        "projection.bias is left fresh: it is [24] here, and the file has none",
        "it has no norms inside attention: weight 1 and bias 0 are kept",
    ]


def test_another_grid_and_patch_are_interpolated(published):
    folder, model = published
    tower = built(replace(EVA.image, image_size=60, patch_size=12))
    assert start(tower, "image", folder / "whole.pt") == [
        UNTOLD,
        "positions is interpolated to [26, 32]",
        "patch.weight is interpolated to [32, 3, 12, 12]",
    ]
    state = model.image.state_dict()
    state["patch.weight"] = resize_kernel(state["patch.weight"], 12)
    state["positions"] = resize_positions(state["positions"], 5, antialias=False)
    same(tower, state)


def test_texts_of_other_lengths_and_vocabularies(published):
    folder, model = published
    shorter = built(replace(TEXT, context_length=7))
    assert start(shorter, "text", folder / "whole.pt") == [
        UNTOLD,
        "positions is cut from 12 to 7 tokens",
    ]
    assert torch.equal(shorter.state_dict()["positions"], model.text.state_dict()["positions"][:7])
    with pytest.raises(CheckpointError, match="12 rows, of which the first 20 are kept"):
        start_tower(built(replace(TEXT, context_length=13)), "text", folder / "whole.pt")
    with pytest.raises(
        CheckpointError, match="its vocabulary has 60 entries, and this tower's has 61"
    ):
        start_tower(built(replace(TEXT, vocab_size=61)), "text", folder / "whole.pt")


def test_another_width_of_the_shared_space(published):
    folder, model = published
    for side, config in (("image", EVA.image), ("text", EVA.text)):
        tower = built(config, embed_dim=20)
        said = start(tower, side, folder / "whole.pt")
        assert (
            "projection.weight is left fresh: it is [20, 32] here, and the file has [24, 32]"
            in said
        )
        but = [name for name in tower.state_dict() if name.startswith("projection.")]
        same(tower, getattr(model, side).state_dict(), but)


@pytest.mark.parametrize("layout", ["open-clip", "transformers", "native"])
def test_text_towers_of_other_layouts(tmp_path, random_model, vit, layout):
    model = random_model(replace(vit, text=replace(vit.text, activation="quick_gelu")))
    match layout:
        case "native":
            save_model(tmp_path / "out", model)
        case "transformers":
            config = replace(model.config, image=replace(vit.image, activation="quick_gelu"))
            transformers.export(tmp_path / "out", config, model.state_dict())
        case "open-clip":
            config = replace(model.config, image=replace(vit.image, activation="quick_gelu"))
            open_clip.export(tmp_path / "out", config, model.state_dict())
    tower = built(vit.text, embed_dim=48)
    assert start(tower, "text", tmp_path / "out") == ["its activation is quick_gelu, and gelu here"]
    same(tower, model.text.state_dict())


def test_a_half_precision_file_and_tower(tmp_path, random_model, vit):
    save_model(tmp_path / "half", random_model(vit).half())
    tower = built(vit.text, embed_dim=48)
    assert start(tower, "text", tmp_path / "half") == []
    assert {p.dtype for p in tower.parameters()} == {torch.float32}


def test_what_does_not_fit_raises(published, tmp_path, vit, random_model):
    folder, model = published
    for config, says in (
        (replace(EVA.image, layers=3), "blocks.2.norm_1.weight"),
        (replace(EVA.image, layers=1), "are not in the model"),
        (replace(EVA.image, layer_scale=0.1), "blocks.0.scale_1"),
        (replace(EVA.image, mlp_width=40), "where the model has"),
        (vit.image, "are missing"),
    ):
        with pytest.raises(CheckpointError, match=f"the image tower can't start from .*{says}"):
            start_tower(built(config), "image", folder / "whole.pt")
    with pytest.raises(CheckpointError, match="holds no text tower"):
        start_tower(built(TEXT), "text", folder / "masked.pt")
    state = model.state_dict()
    state["text.positions"][3, 4] = torch.nan
    save_model(tmp_path / "nan", model)
    with pytest.raises(CheckpointError, match="positions holds values that aren't finite"):
        start_tower(built(TEXT), "text", tmp_path / "nan")
    with pytest.raises(CheckpointError, match="there is no file or folder"):
        start_tower(built(TEXT), "text", tmp_path / "absent.pt")


def test_a_timm_tower(tmp_path, vit, random_model):
    config = replace(vit, image=TimmConfig(name="resnet10t", image_size=64))
    model = models.build(config)
    save_model(tmp_path / "out", model)
    tower = models.build_tower(config.image, 48)
    tower.init()
    assert start(tower, "image", tmp_path / "out") == []
    state = model.image.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in tower.state_dict().items())
