"""DeCLIP's family: every published name finds its model, whose sizes are the published ones."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from diptych import models, pretrained
from tests import goldens

FILES = sorted((Path(goldens.__file__).parent / "golden" / "declip").glob("*-full.keys.json"))
HEADS = ("predictor", "projector", "text_label_predictor", "logit_scale_dense", "visual.fc")
NAMES = {
    "clip-vit-b-32-yfcc15m": ["yfcc15m_vit_clip", "clip_vitb32", "CLIP-ViT-B/32"],
    "slip-vit-b-32-yfcc15m": ["yfcc15m_vit_slip", "slip_vitb32"],
    "filip-vit-b-32-yfcc15m": ["yfcc15m_vit_filip", "filip_vitb32"],
    "declip-vit-b-32-yfcc15m": [
        "yfcc15m_vit_declip",
        "declip_vitb32",
        "DeCLIP-ViT-B32",
        "DeCLIP-ViT-B/32",
    ],
    "defilip-vit-b-32-yfcc15m": ["yfcc15m_vit_defilip", "defilip_vitb32", "DeFILIP-ViT-B32"],
    "clip-rn50-yfcc15m": ["yfcc15m_r50_clip", "clip_res50"],
    "slip-rn50-yfcc15m": ["yfcc15m_r50_slip", "slip_res50"],
    "filip-rn50-yfcc15m": ["yfcc15m_r50_filip", "filip_res50", "filip-resnet50"],
    "declip-rn50-yfcc15m": ["yfcc15m_r50_declip", "declip_res50", "DeCLIP-ResNet50", "DeCLIP-RN50"],
    "declip-vit-b-32-88m": [
        "declip88m_vitb32_declip",
        "DeCLIP-88M-ViT-B/32",
        "135v0R8zTiAppr-BejtoXRHeGeMTlDf2x",
    ],
    "declip-rn50-88m": [
        "declip88m_r50_declip",
        "declip88m_r50",
        "1SZJ8CU5dDIwuvZWxb4xdld7qv7aw6wKm",
    ],
}


@pytest.mark.parametrize(
    ("name", "spelling"), [(name, each) for name, all in NAMES.items() for each in all]
)
def test_spellings(name, spelling):
    assert pretrained.entry(spelling).name == name


def test_eleven_models_and_what_was_claimed_for_them():
    listed = [name for name in pretrained.names() if name.endswith(("-yfcc15m", "-88m"))]
    assert sorted(listed) == sorted(NAMES)
    claims = [claim.value for name in NAMES for claim in pretrained.entry(name).claims]
    assert claims == [32.8, 34.3, 39.5, 43.2, 45.0, 37.2, 28.5, 21.3, 44.4, 66.2, 62.5]
    assert [name for name in NAMES if not pretrained.entry(name).weights] == [
        "slip-rn50-yfcc15m",
        "filip-rn50-yfcc15m",
    ]
    assert [file.format for file in pretrained.entry("declip-rn50-88m").weights] == [
        "declip",
        "declip-image",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_models_are_as_large_as_published_code_makes_them(path):
    """But for heads, and a layer that is never used."""
    golden = goldens.read(path)
    config = pretrained.get(Path(golden["source_config"]).parent.name)
    if path.stem.startswith("slip-r50-full"):  # its code can't run; ours is the one that can
        config = replace(config, image=replace(config.image, head="attention"))
    used = HEADS[:-1] if "resnet2" in path.stem else HEADS
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    shapes = {
        n: s
        for n, s in golden["keys"].items()
        if not n.startswith(used) and not n.endswith(buffers)
    }
    counted = sum(map(math.prod, shapes.values()))
    assert sum(p.numel() for p in models.build(config, device="meta").parameters()) == counted
