"""SigLIP 2's NaFlex as open_clip's main branch has it: timm's tower, open_clip's text tower."""

import functools
import json
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from diptych import Encoder, checkpoints, pretrained
from diptych.compat.faces.naflex import packed_squares
from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.siglip import NaflexImageConfig, SiglipTextConfig
from diptych.families.siglip.layouts import naflex
from diptych.inputs.native import unpack
from diptych.weights.native import save_model

timm = pytest.importorskip("timm")

ARGUMENTS = {
    "embed_dim": 64,
    "depth": 2,
    "num_heads": 4,
    "mlp_ratio": 1.5,
    "patch_size": 8,
    "pos_embed_grid_size": [5, 5],
}
VISION = {
    "image_size": 40,
    "image_seq_len": 30,
    "timm_model_name": "naflexvit_base_patch16_siglip",
    "timm_model_pretrained": False,
    "timm_model_kwargs": ARGUMENTS,
    "timm_pool": "map",
    "timm_proj": "none",
}
TEXT = {
    "context_length": 8,
    "vocab_size": 50,
    "width": 48,
    "heads": 4,
    "layers": 2,
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
}
MODEL = {"embed_dim": 64, "init_logit_bias": -10, "custom_text": True, "text_cfg": TEXT}
PICTURES = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
CONTENT = {
    "model_cfg": MODEL | {"vision_cfg": VISION},
    "preprocess_cfg": PICTURES | {"resize_mode": "squash"},
}
CONFIG = ClipConfig(
    image=NaflexImageConfig(image_size=40, patch_size=8, width=64, layers=2, heads=4, mlp_width=96),
    text=SiglipTextConfig(
        context_length=8, vocab_size=50, width=48, layers=2, heads=4, mlp_width=192
    ),
    embed_dim=64,
    logit_bias=-10.0,
    preprocess=PreprocessConfig(
        resize="native", patches=30, patch_size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    ),
)


@pytest.fixture
def peer(monkeypatch, randomise):
    """open_clip's model of these sections; 3.3 has no word for timm's arguments."""
    made = functools.partial(timm.create_model, **ARGUMENTS)
    monkeypatch.setattr(open_clip.timm_model.timm, "create_model", made)
    new = ("image_seq_len", "timm_model_kwargs")
    vision = {name: value for name, value in VISION.items() if name not in new}
    return randomise(open_clip.CustomTextCLIP(64, vision, TEXT, init_logit_bias=-10)).eval()


@pytest.fixture
def folder(peer, tmp_path):
    save_file(peer.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(CONTENT))
    return tmp_path


def as_timm_takes(packed):
    """Our packed pictures as timm's dictionary of patches of 8 pixels."""
    column, grids = unpack(packed, 8)
    rows = column.unflatten(2, (-1, 8)).permute(0, 2, 3, 4, 1).flatten(2)
    places = torch.arange(rows.shape[1]).expand(len(rows), -1)
    coord = torch.stack([places // grids[:, 1:], places % grids[:, 1:]], dim=2)
    seen = places < grids.prod(1, keepdim=True)
    return {"patches": rows, "patch_coord": coord * seen[..., None], "patch_valid": seen}


@torch.no_grad()
def test_a_model_is_open_clips(peer, folder):
    assert checkpoints.detect(folder) == "open-clip"
    model, meta = checkpoints.load_model(folder)
    assert replace(meta.config, logit_scale=CONFIG.logit_scale) == CONFIG
    draw = np.random.default_rng(0)
    shapes = ((60, 80, 3), (40, 200, 3), (9, 9, 3))
    pictures = [Image.fromarray(draw.integers(0, 256, shape, np.uint8)) for shape in shapes]
    packed = Encoder(model).pixels(pictures)
    ids = torch.randint(50, (3, 8), generator=torch.Generator().manual_seed(1))
    images, texts = model(packed, ids)
    wanted, words, _, bias = peer(as_timm_takes(packed), ids)
    torch.testing.assert_close(images, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(texts, words, atol=1e-5, rtol=0)
    assert model.logit_bias.item() == bias.item()
    assert (images[0] - images[1]).abs().max() > 1e-3


def test_it_is_written_as_it_was(folder, tmp_path):
    checkpoints.convert(folder, "open-clip", tmp_path / "out")
    before, after = (
        load_file(each / "open_clip_model.safetensors") for each in (folder, tmp_path / "out")
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    written = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    assert written["preprocess_cfg"]["resize_mode"] == "squash"
    vision = written["model_cfg"]["vision_cfg"]
    arguments = ARGUMENTS | {"attn_pool_mlp_ratio": 1.5}
    assert vision == VISION | {"timm_model_kwargs": arguments}
    assert from_json(written) == from_json(CONTENT)


def test_other_layouts_are_written_of_it(folder, tmp_path):
    checkpoints.convert(folder, "transformers", tmp_path / "hf")
    assert checkpoints.detect(tmp_path / "hf") == "siglip-transformers"
    one, other = (checkpoints.load_model(each).model for each in (folder, tmp_path / "hf"))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize(
    ("side", "budget", "patches"), [(384, 576, 576), (40, 20, 20), (40, None, 25)]
)
def test_how_large_pictures_are_stands_beside_the_tower(side, budget, patches):
    vision = VISION | {"image_size": side, "image_seq_len": budget}
    found = from_json({"model_cfg": MODEL | {"vision_cfg": vision}})
    assert (found.preprocess.resize, found.preprocess.patches) == ("native", patches)
    assert found.image == CONFIG.image


def made_of_squares(**options):
    """As open_clip's main branch says it with `force_naflex_vision`."""
    name = "vit_base_patch16_siglip_224"
    arguments = {"use_naflex": True, "enable_patch_interpolator": True} | options
    return VISION | {"timm_model_name": name, "timm_model_kwargs": arguments}


@pytest.mark.parametrize("size", [{}, {"img_size": 256, "patch_size": 8}])
@torch.no_grad()
def test_a_tower_made_of_one_for_squares_is_timms(random_model, size):
    sizes = {"embed_dim": 64, "depth": 2, "num_heads": 4, "mlp_ratio": 1.5} | size
    vision = made_of_squares(**sizes)
    config = from_json({"model_cfg": MODEL | {"vision_cfg": vision}})
    side = size.get("img_size", 224) // size.get("patch_size", 16)
    assert (config.image.side, config.image.activation) == (side, "gelu")
    assert from_json(to_json(config)) == config
    model = random_model(config).eval()
    trunk = timm.create_model(vision["timm_model_name"], num_classes=0, global_pool="map", **sizes,
        use_naflex=True).eval()  # fmt: skip
    theirs = export_table(config).to_foreign(model.state_dict())
    prefix = "visual.trunk."
    trunk.load_state_dict(
        {name.removeprefix(prefix): each for name, each in theirs.items() if prefix in name}
    )
    patch = config.image.patch_size
    for rows, columns in ((3, 7), (side, side), (side + 3, 2)):  # smaller, alike, larger
        pixels = torch.randn(1, 3, rows * patch, columns * patch)
        found = model.encode_image(packed_squares(pixels, patch))
        torch.testing.assert_close(found, trunk(pixels), atol=2e-5, rtol=1e-4)
    with pytest.raises(CheckpointError, match="positions bilinearly, this one bicubic"):
        naflex.image_json(config.image, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timm_model_kwargs": {"act_layer": "relu"}}, "act_layer is gelu_tanh or gelu: 'relu'"),
        ({"timm_model_kwargs": {"class_token": True}}, "class_token has no place"),
        ({"timm_model_kwargs": {"pos_embed_grid_size": [2, 3]}}, "is a square"),
        ({"timm_model_kwargs": {"mlp_ratio": 2.0, "attn_pool_mlp_ratio": 4.0}}, "is a square"),
        ({"timm_model_kwargs": 3}, "timm_model_kwargs"),
        ({"image_seq_len": "many"}, "patches"),
        ({"timm_model_name": "vit_base_patch16_siglip_224"}, "timm_model_kwargs"),
        (
            {"timm_model_name": "vit_base_patch16_siglip_224", "timm_model_kwargs": None},
            "image_seq_len = 30",
        ),
    ],
)
def test_what_is_no_such_tower_is_said(change, message):
    with pytest.raises(CheckpointError, match=message):
        from_json({"model_cfg": MODEL | {"vision_cfg": VISION | change}})


def test_what_open_clip_cannot_build_is_said(random_model, tmp_path):
    quick = random_model(replace(CONFIG, image=replace(CONFIG.image, activation="quick_gelu")))
    save_model(tmp_path / "in", quick)
    with pytest.raises(CheckpointError, match="gelu_tanh or gelu .* quick_gelu"):
        checkpoints.convert(tmp_path / "in", "open-clip", tmp_path / "out")


def test_weights_alone_ask_for_their_configuration(folder, tmp_path):
    alone = tmp_path / "alone.safetensors"
    (folder / "open_clip_model.safetensors").rename(alone)
    (folder / "open_clip_config.json").unlink()
    for load in (checkpoints.load_model, checkpoints.load_image_tower):
        with pytest.raises(CheckpointError, match="NaflexImageConfig.*no open_clip_config.json"):
            load(alone)
    found = checkpoints.load_model(alone, config=CONFIG).model
    assert found.config.image == CONFIG.image


@pytest.mark.parametrize("size", ["B", "SO400M"])
def test_published_names_mean_the_weights_in_open_clips_layout(size):
    name = f"ViT-{size}-16-SigLIP2-naflex"
    config, found = pretrained.get(name), pretrained.weights(f"{name}/webli")
    assert (found.place, found.format) == (f"timm/{name}/open_clip_model.safetensors", "open-clip")
    assert pretrained.weights(f"hf-hub:timm/{name}") == found
    theirs = pretrained.get(f"siglip2-{ {'B': 'base'}.get(size, 'so400m') }-patch16-naflex")
    assert (config.image, config.text) == (theirs.image, theirs.text)
    tokenizer = TokenizerConfig(
        kind="huggingface", name=f"timm/ViT-{size}-16-SigLIP2-256", clean="canonical"
    )
    assert (config.tokenizer, config.preprocess.patches) == (tokenizer, 576)
    again = from_json(to_json(config))
    assert replace(again, logit_scale=config.logit_scale) == config
