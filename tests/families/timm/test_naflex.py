"""timm's NaFlexVit: beside open_clip's model over the same trunk, squares and patches."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import diptych
from diptych import compat, models, pretrained
from diptych.checkpoints import convert, load_model
from diptych.compat.open_clip_train.naflex_data import collate_patches, patchify
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.timm import NaflexVitConfig
from diptych.inputs.native import pack
from diptych.models.heat import heat_maps

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")

ARGUMENTS = {"embed_dim": 32, "depth": 2, "num_heads": 2, "reg_tokens": 1, "patch_size": 8}
VISION = {
    "image_size": 32,
    "image_seq_len": 12,
    "timm_model_name": "naflexvit_base_patch16_gap",
    "timm_model_kwargs": ARGUMENTS,
}
TEXT = {"context_length": 16, "width": 32, "heads": 2, "layers": 1}
CFG = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT, "custom_text": True}


@pytest.fixture
def peer(randomise, monkeypatch):
    """open_clip 3.3's model, which passes no arguments on: its main branch does."""
    make = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, **given: make(name, **ARGUMENTS, **given)
    )
    vision = {name: VISION[name] for name in ("image_size", "timm_model_name")}
    made = open_clip.CustomTextCLIP(24, vision, TEXT)
    monkeypatch.undo()
    return randomise(made).eval()


@pytest.fixture
def patches():
    """Of three pictures, the second one oblong and the last one small."""
    generator = torch.Generator().manual_seed(3)
    sizes = ((24, 32), (16, 48), (8, 8))
    rows = [patchify(torch.randn(3, *size, generator=generator), (8, 8)) for size in sizes]
    return collate_patches(rows, 12)


@torch.no_grad()
def test_both_ways(peer, patches, tmp_path):
    (tmp_path / "in").mkdir()
    before = peer.state_dict()
    save_file(before, tmp_path / "in" / "open_clip_model.safetensors")
    (tmp_path / "in" / "open_clip_config.json").write_text(json.dumps({"model_cfg": CFG}))
    model = compat.create_model(f"local-dir:{tmp_path / 'in'}")
    squares = torch.randn(2, 3, 32, 24, generator=torch.Generator().manual_seed(4))
    for images in (squares, patches):
        torch.testing.assert_close(model.encode_image(images), peer.encode_image(images))
    convert(tmp_path / "in", "open-clip", tmp_path / "out")
    written = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    assert before.keys() == written.keys()
    assert all(torch.equal(before[name], written[name]) for name in before)
    config = load_model(tmp_path / "in")[1].config
    again = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    assert from_json(again) == config
    assert (config.preprocess.resize, config.preprocess.patches) == ("native", 12)
    assert again["model_cfg"]["vision_cfg"]["timm_model_kwargs"] == ARGUMENTS
    with pytest.raises(ConfigError, match="aren't whole patches of 8 x 8"):
        model.encode_image(torch.zeros(1, 3, 32, 20))


@torch.no_grad()
def test_pictures_as_they_are():
    """What fills up a row changes nothing."""
    model = models.build(from_json({"model_cfg": CFG})).eval()
    picture = np.random.default_rng(0).integers(0, 255, (40, 10, 3), np.uint8)
    assert diptych.Encoder(model).embed_images([picture, picture[:, :8]]).shape == (2, 24)
    tower, levels = model.image, torch.from_numpy(picture[:32, :8].copy()).permute(2, 0, 1)
    full, longer = (pack(levels, 8, count).float()[None] for count in (4, 9))
    torch.testing.assert_close(tower(full).pooled, tower(longer).pooled)
    assert tower(full).tokens.shape == (1, 4 + tower.class_tokens, 32)
    assert tower.flops() == tower.flops_for(784) > tower.flops_for(12) > 0
    bare = models.build_tower(model.config.image, model.config.embed_dim, "meta")
    assert bare.flops_for(12) == tower.flops_for(12)  # where no grid can be read
    with pytest.raises(ConfigError, match="no heat maps of a NaflexVitTower"):
        heat_maps(tower, full, torch.zeros(1, 24))


BUILT = {
    "naflex_ViT-B-16": (196, None, True),
    "naflex_ViT-B-32": (49, {"pos_embed_grid_size": [7, 7], "patch_size": 32}, False),
}
"""Patches of a picture, what timm is told, and whether the text tower is `text`: open_clip,
model_configs."""


@pytest.mark.parametrize("name", BUILT)
def test_names(name):
    patches, arguments, custom = BUILT[name]
    config = pretrained.get(name)
    assert from_json(to_json(config)) == config
    assert name in compat.list_models()
    written = to_json(config)["model_cfg"]
    assert written["vision_cfg"]["image_seq_len"] == patches
    assert written["vision_cfg"].get("timm_model_kwargs") == arguments
    assert written.get("custom_text", False) == custom
    assert models.build(config, device="meta").image.trunk.get_patch_size()[0] == (
        config.image.patch_size
    )


def test_what_is_no_option():
    with pytest.raises(ConfigError, match="a NaflexVitConfig has a patch_size of its own"):
        NaflexVitConfig(name="naflexvit_base_patch16_gap", options={"patch_size": 8})
    with pytest.raises(CheckpointError, match="checkpoint_path aren't passed on"):
        from_json(
            {
                "model_cfg": CFG
                | {"vision_cfg": VISION | {"timm_model_kwargs": {"checkpoint_path": "evil.bin"}}}
            }
        )
