"""What weights don't say is that of open_clip's own model of the same shapes, and is said."""

import functools
from dataclasses import replace

import pytest
import torch

from diptych import pretrained
from diptych.config import ClipConfig
from diptych.errors import CheckpointError
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig
from diptych.families.clip.layouts import open_clip as layout
from diptych.families.clip.layouts.open_clip_config import from_json
from diptych.families.clip.published import published
from diptych.weights.layout import WeightSource
from diptych.weights.read import WeightFile
from diptych.weights.state import State

open_clip = pytest.importorskip("open_clip")

REFUSED = {"CLIPA": "pre_norm False", "worldwide": "vocabulary"}
"""Their layers or their tokenizer aren't CLIP's."""


def plain_models() -> list[str]:
    """open_clip's models of CLIP's own towers."""
    found = []
    for name in open_clip.list_models():
        cfg = open_clip.get_model_config(name)
        towers = cfg["vision_cfg"].keys() | cfg["text_cfg"].keys() | cfg.keys()
        if not towers & {"timm_model_name", "hf_model_name", "multimodal_cfg"}:
            found.append(name)
    return found


def read(tensors, folder, kind="torch"):
    """What the layout makes of a file without a configuration."""
    weights = WeightFile(State.of(tensors), kind)
    source = WeightSource(path=folder, file=folder / "epoch_1.pt", weights=weights)
    return layout.read_config(source, layout.table(tensors).to_ours(tensors))


@functools.cache
def shapes(name):
    """A model's weights without numbers."""
    cfg = open_clip.get_model_config(name)
    cfg["text_cfg"].pop("hf_tokenizer_name", None)
    cfg["text_cfg"].pop("tokenizer_kwargs", None)
    with torch.device("meta"):
        return open_clip.CLIP(**cfg).state_dict()


def of_each_kind() -> set[str]:
    """Of each patch size, form of a tower and reason to refuse; twins in shapes are both there."""
    found = {}
    for name in plain_models():
        vision = open_clip.get_model_config(name)["vision_cfg"]
        refused = next((part for part in REFUSED if part in name), None)
        kind = (str(vision.get("patch_size")), isinstance(vision["layers"], list), refused)
        found.setdefault((*kind, name.endswith("-quickgelu")), name)
    return {*found.values()}


DAILY = of_each_kind()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in DAILY else pytest.mark.slow)
        for name in plain_models()
    ],
)
def test_every_model_of_open_clip_is_right_but_for_what_is_said_or_refused(name, tmp_path):
    tensors = shapes(name.removesuffix("-quickgelu"))  # the twins are alike in shapes
    if reason := next((why for part, why in REFUSED.items() if part in name), None):
        with pytest.raises(CheckpointError, match=reason):
            read(tensors, tmp_path)
        return
    config, notes = read(tensors, tmp_path)
    right = from_json({"model_cfg": open_clip.get_model_config(name)})
    assert right == pretrained.get(name)
    assert "gelu, not quick_gelu" in notes["assumed"]
    assert f"{right.image.heads} heads in the image tower" in notes["assumed"]
    assert f"{right.text.heads} heads in the text tower" in notes["assumed"]
    if name.endswith("-quickgelu"):
        right = pretrained.get(name.removesuffix("-quickgelu"))
    assert config == right


def test_there_are_more_than_fifty():
    assert len(plain_models()) > 50


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "RN50-quickgelu", "RN50x16-quickgelu"])
def test_openais_numbers_say_the_activation(name, tmp_path):
    numbers = dict.fromkeys(
        ("input_resolution", "context_length", "vocab_size"), torch.empty((), device="meta")
    )
    config, notes = read(shapes(name) | numbers, tmp_path)
    assert config == pretrained.get(name)
    assert "assumed" not in notes


def test_matrices_in_half_beside_norms_in_single_are_openais(tmp_path):
    """As `clip.load` holds them on a GPU."""
    tensors = shapes("ViT-B-32")
    assert read(tensors, tmp_path)[0].text.activation == "gelu"
    lowered = {
        name: tensor if ".ln_" in name or "embed" in name else tensor.half()
        for name, tensor in tensors.items()
    }
    config, notes = read(lowered, tmp_path)
    assert config == pretrained.get("vit-b-32-quickgelu")
    assert "quick_gelu, not gelu" in notes["assumed"]


def test_long_clips_two_tables_are_one_and_say_the_activation(tmp_path):
    first, second = torch.randn(2, 248, 512)
    tables = {"positional_embedding": first, "positional_embedding_res": second}
    tensors = shapes("ViT-B-16") | tables
    config, notes = read(tensors, tmp_path)
    assert config == pretrained.get("longclip-b") == pretrained.get("BeichenZhang/LongCLIP-B")
    quick = pretrained.get("vit-b-16-quickgelu")
    assert config == replace(quick, text=replace(quick.text, context_length=248))
    assert "quick_gelu, not gelu" in notes["assumed"]
    ours = layout.table(tensors).to_ours(tensors)["text.positions"]
    assert torch.equal(ours, torch.cat([first[:20], second[20:]]))


KNOWN = pretrained.get("vit-b-32")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 640, "heads": 10}, "width 640"),
        ({"layers": 11}, "layers 11"),
        ({"patch_size": 8}, "patch_size 8"),
        ({"mlp_width": 3000}, "mlp_width 3000"),
        ({"pre_norm": False}, "pre_norm False"),
    ],
)
def test_shapes_that_nobody_published_are_refused(change, said):
    told = replace(KNOWN, image=replace(KNOWN.image, **change))
    with pytest.raises(CheckpointError, match=f"{said}.* give config= .*--config"):
        published(told)


def test_a_text_tower_that_nobody_published_is_refused():
    with pytest.raises(CheckpointError, match="text tower of width 576.*give config="):
        published(replace(KNOWN, text=replace(KNOWN.text, width=576, heads=9)))
    with pytest.raises(CheckpointError, match="vocabulary has 50000 .* 49408.*give config="):
        published(replace(KNOWN, text=replace(KNOWN.text, vocab_size=50000)))


def test_another_size_of_pictures_is_the_same_tower():
    config, _ = published(replace(KNOWN, image=VitConfig(image_size=384)))
    assert config.image == VitConfig(image_size=384)
    resnet = replace(KNOWN, image=ResNetConfig(image_size=288, heads=8))
    assert published(resnet)[0].image == ResNetConfig(image_size=288)


def test_every_further_model_is_open_clips():
    names = {name.lower() for name in plain_models()}
    ours = [pretrained.entry(name) for name in pretrained.names("vit-*") + pretrained.names("rn*")]
    configs = {entry.name: entry.config for entry in ours if isinstance(entry.config, ClipConfig)}
    clips = {
        name
        for name, config in configs.items()
        if isinstance(config.image, VitConfig | ResNetConfig)
        and isinstance(config.text, TextConfig)
    }
    assert "vit-m-16-alt" in clips
    assert clips <= names
