"""Names in every spelling, near misses, and what the zoo says about models."""

import subprocess
import sys

import pytest

from diptych import zoo
from diptych.config import ResNetConfig
from diptych.config.serialize import from_json, to_json
from diptych.errors import UnknownNameError


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("vit-b-32", "vit-b-32"),
        ("ViT-B-32", "vit-b-32"),
        ("ViT-B/32", "vit-b-32"),
        ("vit_b_16", "vit-b-16"),
        ("ViT-L/14@336px", "vit-l-14-336"),
        ("ViT-L-14-336-quickgelu", "vit-l-14-336-quickgelu"),
        ("ViT-L/14@336px-quickgelu", "vit-l-14-336-quickgelu"),
        ("RN50", "rn50"),
        ("RN101-quickgelu", "rn101-quickgelu"),
        ("openai/clip-vit-base-patch32", "vit-b-32-quickgelu"),
        ("timm/resnet50_clip.openai", "rn50-quickgelu"),
        ("Tiny", "tiny"),
    ],
)
def test_spellings(spelling, name):
    assert zoo.entry(spelling).name == name
    assert zoo.get(spelling) == zoo.get(name)


def test_near_misses_are_offered():
    with pytest.raises(UnknownNameError, match="did you mean 'vit-b-32'") as error:
        zoo.get("vit-b-23")
    assert "vit-b-32" in error.value.near
    with pytest.raises(UnknownNameError, match="no model is called 'ViT-B/23'"):
        zoo.get("ViT-B/23")
    with pytest.raises(UnknownNameError, match=r"; known are clip-rn50-yfcc15m, .*, …$"):
        zoo.get("xyz")


def test_names_match_patterns():
    assert zoo.names("rn*") == ["rn50", "rn101", "rn50-quickgelu", "rn101-quickgelu"]
    assert zoo.names("ViT-B/32*") == ["vit-b-32", "vit-b-32-quickgelu"]
    assert zoo.names("nothing*") == []
    assert len(zoo.names()) == len(set(zoo.names()))
    assert all(zoo.entry(name).name == name for name in zoo.names())


def test_no_two_models_answer_to_one_name():
    """If two did, one of them would not be found by it."""
    for entry in map(zoo.entry, zoo.names()):
        own = (entry.name, *entry.aliases)
        assert {zoo.entry(name).name for name in own} == {entry.name}
        assert {zoo.weights(name) for name in own} == {entry.weights[0] if entry.weights else None}
        for file in entry.weights:
            for name in (*file.names, *(f"{name}/{tag}" for name in own for tag in file.tags)):
                assert zoo.entry(name) is entry
                assert zoo.weights(name) is file


def test_a_file_is_picked_by_its_own_name():
    assert zoo.weights("vit-b-32") is None
    assert zoo.weights("vit-b-32-quickgelu").repo == "timm/vit_base_patch32_clip_224.openai"
    assert zoo.weights("openai/clip-vit-base-patch32").format == "transformers"
    assert zoo.weights("hf-hub:openai/clip-vit-base-patch32").format == "transformers"


def test_openais_weights_belong_to_quick_gelu():
    for name in [*zoo.names("vit*"), *zoo.names("rn*")]:
        entry = zoo.entry(name)
        if entry.weights:
            assert entry.config.text.activation == "quick_gelu"
            assert (
                isinstance(entry.config.image, ResNetConfig)
                or entry.config.image.activation == "quick_gelu"
            )


def test_every_claim_has_a_source_and_every_file_a_licence():
    for file in [file for name in zoo.names() for file in zoo.entry(name).weights]:
        assert file.licence
        assert all(claim.metric and claim.source for claim in file.claims)


@pytest.mark.parametrize("name", zoo.names())
def test_configurations_survive_json(name):
    config = zoo.entry(name).config
    assert from_json(type(config), to_json(config)) == config


def test_listing_needs_no_torch():
    code = "import sys; from diptych import zoo; zoo.names(); zoo.get('vit-b-32'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
