"""What a `model_cfg` says beside the vectors' own settings, next to open_clip."""

import json
from dataclasses import replace
from importlib.resources import files

import pytest
import torch

from diptych import compat
from diptych.compat.factory import _MODEL_CONFIGS
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.timm import TimmConfig

open_clip = pytest.importorskip("open_clip")

VISION = {"layers": 1, "width": 64, "patch_size": 8, "image_size": 32, "output_tokens": True}
TEXT = {"context_length": 8, "vocab_size": 30, "width": 16, "heads": 1, "layers": 1}
TIMM = {"timm_model_name": "test_convnext", "timm_drop": 0.3, "timm_drop_path": 0.5}


def pictures(count=4, side=32):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def pair(kind, vision, **options):
    peer = getattr(open_clip, kind)(16, vision, TEXT, **options)
    ours = getattr(compat, kind)(16, vision, TEXT, **options)
    ours.load_state_dict(peer.state_dict())
    return peer.train(), ours.train()


def drawn(model, pixels):
    torch.manual_seed(5)
    return model.visual(pixels)


@pytest.mark.parametrize("proj", ["linear", "mlp"])
def test_towers_of_timms_drop_what_open_clips_drop(proj):
    pytest.importorskip("timm")
    peer, ours = pair("CLIP", TIMM | {"timm_proj": proj, "image_size": 64})
    assert [type(module) for module in ours.visual.modules()][1:] == [
        type(module) for module in peer.visual.modules()
    ][1:]
    pixels = pictures(side=64)
    torch.testing.assert_close(drawn(ours, pixels), drawn(peer, pixels))
    assert not torch.equal(drawn(ours, pixels), ours.eval().visual(pixels))


@torch.no_grad()
def test_the_token_that_is_pooled_may_be_the_only_one_that_is_normed():
    peer, ours = (each.eval() for each in pair("CLIP", VISION | {"final_ln_after_pool": True}))
    torch.testing.assert_close(ours.visual(pictures()), peer.visual(pictures()))


def test_trunks_of_timms_drop_patches_and_take_any_pictures(tmp_path):
    pytest.importorskip("timm")
    peer, ours = pair("CLIP", {"timm_model_name": "test_vit2", "patch_dropout": 0.5})
    pixels = pictures(side=160)
    torch.testing.assert_close(drawn(ours, pixels), drawn(peer, pixels))
    with pytest.raises(ConfigError, match="patch_drop_rate"):
        compat.CLIP(16, TIMM | {"patch_dropout": 0.5}, TEXT)
    small = compat.CLIP(16, TIMM | {"image_size": 64}, TEXT)
    torch.save(small.state_dict(), tmp_path / "weights.pt")
    _MODEL_CONFIGS["any"] = {"embed_dim": 16, "vision_cfg": TIMM, "text_cfg": TEXT}
    model = compat.create_model("any", tmp_path / "weights.pt", force_image_size=96)
    del _MODEL_CONFIGS["any"]
    assert model.visual.image_size == (96, 96)


def test_patches_are_dropped_and_tokens_given():
    peer, ours = pair("CustomTextCLIP", VISION | {"patch_dropout": 0.5})
    assert ours.visual.patch_dropout.prob == peer.visual.patch_dropout.prob
    found, expected = drawn(ours, pictures()), drawn(peer, pictures())
    torch.testing.assert_close(found, expected)  # of the same seed the same patches
    assert found[1].shape == (4, 8, 64)
    assert ours.eval().encode_image(pictures()).shape == (4, 16)
    with pytest.raises(ConfigError, match="drops no patches"):
        compat.CLIP(16, {"layers": [1, 1, 1, 1], "width": 16, "patch_dropout": 0.5}, TEXT)


@pytest.mark.parametrize("place", ["registered", "folder", "section"])
def test_factories_do_what_a_configuration_says(place, tmp_path):
    text = TEXT | {"output_tokens": True, "eos_id": 7, "pad_id": 3}
    said = {"embed_dim": 16, "vision_cfg": VISION | {"patch_dropout": 0.25}, "text_cfg": text}
    said |= {"custom_text": True, "init_logit_scale": 2.0, "nonscalar_logit_scale": True}
    said |= {"output_dict": True}
    if place == "section":
        model = compat.create_model(
            "ViT-S-32-alt", load_weights=False, vision_cfg=said["vision_cfg"], text_cfg=text
        )
        assert model.text_eos_id == 7
    elif place == "folder":
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": said}))
        weights = compat.CustomTextCLIP(16, VISION, TEXT, nonscalar_logit_scale=True).state_dict()
        torch.save(weights, tmp_path / "open_clip_pytorch_model.bin")
        model = compat.create_model(f"local-dir:{tmp_path}")
    else:
        _MODEL_CONFIGS["settled"] = said
        model = compat.create_model("settled", load_weights=False)
        del _MODEL_CONFIGS["settled"]
        assert model.logit_scale.tolist() == [2.0]
    assert model.visual.patch_dropout.prob == 0.25
    assert model.visual.output_tokens
    if place != "section":
        assert isinstance(model, compat.CustomTextCLIP)
        assert model.text.output_tokens
        assert (model.text.eos_id, model.text.pad_id) == (7, 3)
        assert model.output_dict
        assert model.logit_scale.shape == (1,)


def test_one_tower_is_not_the_named_model(tmp_path):
    text = TEXT | {"embed_cls": True, "output_tokens": True}
    vision = {"timm_model_name": "test_byobnet", "image_size": 64, "timm_proj": "none"}
    said = {"embed_dim": 256, "vision_cfg": vision, "text_cfg": text, "custom_text": True}
    _MODEL_CONFIGS["towers"] = said | {"multimodal_cfg": TEXT}
    tower = open_clip.model._build_text_tower(256, text)
    state = {f"text.{name}": tensor for name, tensor in tower.state_dict().items()}
    torch.save(state | {"logit_scale": torch.tensor(1.0)}, tmp_path / "text.pt")
    with pytest.raises(CheckpointError, match="no image tower"):
        compat.create_model("towers", tmp_path / "text.pt")
    del _MODEL_CONFIGS["towers"]


@pytest.mark.parametrize("pool", ["avg", "token", ""])
def test_a_vits_norm_stays_where_timm_has_it_for_the_trunks_own_pool(pool):
    """open_clip changes the pool when the trunk is built."""
    pytest.importorskip("timm")
    for name in ("test_vit", "test_vit2"):  # which pool by a token and by a mean
        if (name, pool) == ("test_vit2", "token"):
            continue  # which it has none of
        peer, ours = pair("CLIP", {"timm_model_name": name, "timm_pool": pool})
        assert type(ours.visual).__name__ == "TimmModel"
        pixels = pictures(side=160)
        with torch.no_grad():
            mine, theirs = ours.eval().visual(pixels), peer.eval().visual(pixels)
        torch.testing.assert_close(mine, theirs)
        assert section_of(ours)["timm_pool"] == pool
        assert ours.clip.image.config == from_json(to_json(ours.config)).image


def section_of(model):
    return to_json(model.config)["model_cfg"]["vision_cfg"]


def test_a_vit_that_open_clip_builds_otherwise_is_not_written():
    pytest.importorskip("timm")
    image = TimmConfig(name="test_vit", options={"global_pool": "avg"}, image_size=160)
    config = compat.CLIP(16, VISION, TEXT).config
    with pytest.raises(CheckpointError, match="fc_norm = False"):
        to_json(replace(config, image=image))


def test_the_class_is_what_the_configuration_asks_for():
    pytest.importorskip("timm")
    said = {"embed_dim": 16, "vision_cfg": TIMM | {"timm_proj": None}, "text_cfg": TEXT}
    for custom, kind in ((False, compat.CLIP), (True, compat.CustomTextCLIP)):
        _MODEL_CONFIGS["asked"] = said | {"custom_text": custom}
        model = compat.create_model("asked", load_weights=False)
        assert type(model) is kind
        with pytest.raises(CheckpointError, match="says no weights"):
            compat.create_model_from_pretrained("asked")
        del _MODEL_CONFIGS["asked"]


def test_a_trunk_whose_classifier_reads_more_than_its_features():
    """open_clip builds a projection that doesn't fit, and fails at the first picture."""
    pytest.importorskip("timm")
    model = compat.CLIP(16, {"timm_model_name": "test_mambaout", "image_size": 64}, TEXT)
    assert model.eval().encode_image(pictures(side=64)).shape == (4, 16)


def test_published_configurations_say_their_rates():
    found = open_clip.factory._MODEL_CONFIGS
    rates = {name: each["vision_cfg"].get("timm_drop_path") for name, each in found.items()}
    assert compat.get_model_config("ViTamin-S")["vision_cfg"]["timm_drop_path"] == 0.1
    listed = json.loads(files("diptych.compat").joinpath("open_clip.json").read_text("utf-8"))
    assert listed["timm_drop_path"] == {name: rate for name, rate in rates.items() if rate}
