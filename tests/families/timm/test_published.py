"""open_clip's models with towers of timm's: configurations, tags, names and shapes as it has them,
and the same vectors of the same weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych import models, pretrained
from diptych.checkpoints import convert, load_model
from diptych.config.serialize import difference
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts.open_clip import CONFIG, WEIGHTS, export_table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.timm import TimmConfig
from diptych.models import build_tower

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")

CONFIGS = Path(open_clip.__file__).parent / "model_configs"
NAMES = [
    file.stem
    for file in sorted(CONFIGS.glob("*.json"))
    if file.stem.startswith(("MobileCLIP", "ViTamin", "convnext"))
]
TEXT = {"context_length": 9, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}


def described(name):
    return json.loads((CONFIGS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_every_published_model_is_open_clips(name):
    ours, wanted = pretrained.get(name), described(name)
    preprocess = {"mean": ours.preprocess.mean, "std": ours.preprocess.std}
    preprocess |= {"interpolation": ours.preprocess.interpolation}
    assert not difference(ours, from_json({"model_cfg": wanted, "preprocess_cfg": preprocess}))
    assert from_json(to_json(ours)) == ours
    assert to_json(ours)["model_cfg"].get("custom_text") == wanted.get("custom_text")


def test_every_tag_means_open_clips_file_and_pixels():
    pairs = [pair for pair in open_clip.list_pretrained() if pair[0] in NAMES]
    assert len(pairs) == 37
    for name, tag in pairs:
        known, ours = open_clip.get_pretrained_cfg(name, tag), pretrained.get(name).preprocess
        weights = pretrained.weights(f"{name}/{tag}") if "convnext" not in name else None
        place = f"{weights.repo}/{weights.file}" if weights else f"{_repository(name, tag)}/"
        assert place == known["hf_hub"], name
        assert (ours.mean, ours.std) == (known["mean"], known["std"]), name
        assert (ours.interpolation, ours.resize) == (known["interpolation"], known["resize_mode"])


def _repository(name, tag):
    return pretrained.repository(f"{name}/{tag}")


@pytest.mark.parametrize("name", ["MobileCLIP2-S4", "ViTamin-XL-384", "convnext_large_d_320"])
def test_names_and_shapes_are_open_clips(name):
    cfg = described(name)
    kind = open_clip.CustomTextCLIP if cfg.pop("custom_text", False) else open_clip.CLIP
    with torch.device("meta"):
        theirs = kind(**cfg).state_dict()
    config = pretrained.get(name)
    ours = export_table(config).to_foreign(models.build(config, device="meta").state_dict())
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


@pytest.mark.parametrize(
    ("trunk", "size", "pool", "projection"),
    [
        ("test_vit", 160, "token", None),
        ("test_convnext", 64, "", "mlp"),
        ("test_resnet", 64, "avg", "linear"),
        ("test_resnet", 64, "avg", None),
        ("test_vit", 160, "map", "none"),
        ("test_resnet", 64, "avg", "none"),
    ],
)
def test_vectors_are_open_clips(randomise, tmp_path, trunk, size, pool, projection):
    vision = {"timm_model_name": trunk, "timm_pool": pool, "timm_proj": projection}
    vision |= {"image_size": size}
    widths = {"test_vit": 64, "test_resnet": 96}
    embed_dim = widths[trunk] if projection == "none" else 12
    peer = randomise(open_clip.CustomTextCLIP(embed_dim, vision, TEXT))
    cfg = {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": TEXT, "custom_text": True}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / CONFIG).write_text(json.dumps({"model_cfg": cfg}))
    save_file(peer.state_dict(), tmp_path / "in" / WEIGHTS)
    ours = load_model(tmp_path / "in")
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, wanted = ours.model.encode_image(pixels), peer.encode_image(pixels)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    convert(tmp_path / "in", "open-clip", tmp_path / "out")
    written = load_file(tmp_path / "out" / WEIGHTS)
    image = {name: tensor for name, tensor in peer.state_dict().items() if "visual" in name}
    assert all(torch.equal(written[name], tensor) for name, tensor in image.items())
    assert {name for name in written if "visual" in name} == image.keys()


def test_what_open_clip_builds_otherwise_is_refused():
    config = pretrained.get("ViTamin-S")
    small = replace(config, image=replace(config.image, image_size=96))
    with pytest.raises(CheckpointError, match="vitamin_small_224 for .* of 224 pixels, .* 96"):
        to_json(small)
    merged = replace(config, image=replace(config.image, deploy=True))
    with pytest.raises(CheckpointError, match="with their branches, and this one's are merged"):
        to_json(merged)
    cfg = described("ViTamin-S")
    odd = cfg | {"vision_cfg": cfg["vision_cfg"] | {"timm_pool": "rot_attn"}}
    with pytest.raises(CheckpointError, match="rot_attn.* has no place"):
        from_json({"model_cfg": odd})
    with pytest.raises(ConfigError, match="features of timm's test_vit are 64 wide.* it is 6"):
        build_tower(TimmConfig(name="test_vit", projection="none"), 6, "meta")


def test_a_classifier_of_several_layers_is_no_projection():
    config = TimmConfig(name="test_efficientnet", projection="classifier", image_size=32)
    assert build_tower(config, 6).projection.bias is not None
    mobile = TimmConfig(name="levit_128s", projection="classifier")
    with pytest.raises(ConfigError, match="classifier of timm's levit_128s is no linear layer"):
        build_tower(mobile, 6, "meta")
