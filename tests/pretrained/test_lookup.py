"""Names in every spelling, near misses, and what is said of models."""

import subprocess
import sys
from dataclasses import replace

import pytest

from diptych import pretrained
from diptych.config.serialize import from_json, to_json
from diptych.errors import UnknownNameError
from diptych.families.clip import ResNetConfig, TextConfig
from diptych.families.clip.figures import FIGURES
from diptych.pretrained import catalogue


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
    assert pretrained.entry(spelling).name == name
    assert pretrained.get(spelling) == pretrained.get(name)


def test_near_misses_are_offered():
    with pytest.raises(UnknownNameError, match="did you mean 'vit-b-32'") as error:
        pretrained.get("vit-b-23")
    assert "vit-b-32" in error.value.near
    with pytest.raises(UnknownNameError, match="no model is called 'ViT-B/23'"):
        pretrained.get("ViT-B/23")
    with pytest.raises(UnknownNameError, match=r"; `diptych models` lists those that are known$"):
        pretrained.get("xyz")


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("openMaMMUT", "mammut-vit-l-14"),  # a word of the repository's name
        ("mammut2-l", "mammut2-vit-l-14"),  # words that stand apart
        ("MetaCLIP-H", "vit-h-14-worldwide-quickgelu"),
        ("siglip3", "vit-b-16-siglip"),  # its kind
        ("siglip", "vit-b-16-siglip"),
        ("dfn5b", "vit-h-14-quickgelu"),  # a tag
        ("clip-vit-large-patch14", "vit-l-14-quickgelu"),
        ("MobileCLIP2", "mobileclip2-b"),
        ("ViT-B32", "vit-b-32"),
        ("vit-b-32-qickgelu", "vit-b-32-quickgelu"),
    ],
)
def test_a_near_miss_is_of_the_same_kind(asked, near):
    with pytest.raises(UnknownNameError) as error:
        pretrained.get(asked)
    assert error.value.near[0] == near


@pytest.mark.parametrize("asked", ["BiomedCLIP", "jina-clip", "dinov2", "336", ""])
def test_another_kind_is_no_near_miss(asked):
    with pytest.raises(UnknownNameError) as error:
        pretrained.get(asked)
    assert not error.value.near


def test_a_tag_and_its_repository_are_the_same_weights():
    for label, file in catalogue.labelled():
        assert pretrained.entry(label).weights == (file,)
        assert pretrained.repository(label) == pretrained.repository(file.repo) == file.repo
    found = pretrained.entry("hf-hub:laion/CLIP-ViT-L-14-laion2B-s32B-b82K")
    assert found == pretrained.entry("ViT-L-14/laion2b_s32b_b82k")
    assert (found.name, found.config.preprocess.mean) == ("vit-l-14", (0.5, 0.5, 0.5))
    assert pretrained.entry("apple/DFN5B-CLIP-ViT-H-14").name == "vit-h-14-quickgelu"


@pytest.mark.parametrize(
    ("repository", "layout", "model", "changes"),
    [
        (
            "google/siglip2-so400m-patch14-384",
            "siglip-transformers",
            "ViT-SO400M-14-SigLIP2-378/webli",
            {"interpolation": "bilinear"},
        ),
        ("google/siglip-base-patch16-224", "siglip-transformers", "ViT-B-16-SigLIP/webli", {}),
        (
            "facebook/metaclip-b32-400m",
            "transformers",
            "ViT-B-32-quickgelu/metaclip_400m",
            {},
        ),
    ],
)
def test_authors_own_repositories_hold_the_same_model(repository, layout, model, changes):
    """In another layout, whose folder says how it is built."""
    for name in (repository, f"hf-hub:{repository}", repository.partition("/")[2]):
        assert pretrained.repository(name) == repository
        found, other = pretrained.entry(name), pretrained.entry(model)
        assert (found.name, found.training) == (other.name, other.training)
        [weights], [first, *_] = found.weights, other.weights
        assert (weights.format, weights.licence) == (layout, first.licence)
        assert weights.claims == first.claims
        how = replace(other.config.preprocess, **changes)
        sizes = [replace(c.image, activation="gelu") for c in (found.config, other.config)]
        assert sizes[0] == sizes[1]
        assert found.config.preprocess == how


def test_a_repository_that_nobody_knows_is_told_how_it_is_written():
    with pytest.raises(UnknownNameError, match=r"written hf-hub:google/siglip2-tiny-patch16-224"):
        pretrained.entry("google/siglip2-tiny-patch16-224")
    with pytest.raises(UnknownNameError, match="is written hf-hub:me/mine$"):
        pretrained.entry("hf-hub:me/mine")


def test_many_that_are_meant_are_a_pattern():
    with pytest.raises(UnknownNameError, match=r"'tipsv2-l-14' or .*'\*TIPS\*'` lists 4"):
        pretrained.get("TIPS")


def test_names_match_patterns():
    assert pretrained.names("rn*1*") == ["rn101", "rn101-quickgelu", "rn50x16", "rn50x16-quickgelu"]
    assert pretrained.names("ViT-B/16*")[:2] == ["vit-b-16", "vit-b-16-quickgelu"]
    assert pretrained.names("nothing*") == []
    assert len(pretrained.names()) == len(set(pretrained.names()))
    assert all(pretrained.entry(name).name == name for name in pretrained.names())


def test_no_two_models_answer_to_one_name():
    """If two did, one of them would not be found by it."""
    for entry in map(pretrained.entry, pretrained.names()):
        own = (entry.name, *entry.aliases)
        assert {pretrained.entry(name).name for name in own} == {entry.name}
        assert {pretrained.weights(name) for name in own} == {
            entry.weights[0] if entry.weights else None
        }
        for file in entry.weights:
            for name in (*file.names, *(f"{name}/{tag}" for name in own for tag in file.tags)):
                assert pretrained.entry(name) is entry
                assert pretrained.weights(name) is file


def test_a_file_is_picked_by_its_own_name():
    assert pretrained.weights("vit-b-32") is None
    assert pretrained.weights("vit-b-32-quickgelu").repo == "timm/vit_base_patch32_clip_224.openai"
    assert pretrained.weights("openai/clip-vit-base-patch32").format == "transformers"
    assert pretrained.weights("hf-hub:openai/clip-vit-base-patch32").format == "transformers"


def test_openais_weights_belong_to_quick_gelu():
    for name in [*pretrained.names("vit-*"), *pretrained.names("rn*")]:
        entry = pretrained.entry(name)
        repos = [file.repo for file in entry.weights]
        if any("openai" in repo for repo in repos) and isinstance(entry.config.text, TextConfig):
            assert entry.config.text.activation == "quick_gelu"
            assert (
                isinstance(entry.config.image, ResNetConfig)
                or entry.config.image.activation == "quick_gelu"
            )


def test_every_claim_has_a_source_and_every_file_a_licence():
    for file in [file for name in pretrained.names() for file in pretrained.entry(name).weights]:
        assert file.licence
        assert all(claim.metric and claim.source for claim in file.claims)


@pytest.mark.parametrize("name", pretrained.names())
def test_configurations_survive_json(name):
    config = pretrained.entry(name).config
    assert from_json(type(config), to_json(config)) == config


def test_listing_needs_no_torch():
    code = (
        "import sys; from diptych import pretrained; pretrained.names(); "
        "pretrained.get('vit-b-32'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_figures_belong_to_weights_that_are_known():
    for label in FIGURES:
        assert pretrained.repository(label) or pretrained.weights(label), label


def test_the_list_of_models_builds_none():
    assert all(map(pretrained.sizes, pretrained.names()))
