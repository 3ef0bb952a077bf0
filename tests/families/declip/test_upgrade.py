"""Objectives of runs that were started when DeCLIP's options were fields of the general
configurations."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych import recipes
from diptych.config import (
    ClipObjectiveConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    ObjectiveConfig,
    SimClrConfig,
    SimSiamConfig,
    SlipObjectiveConfig,
    TokenPairsConfig,
)
from diptych.config.serialize import from_dict, to_dict
from diptych.families.declip.published_config import (
    CONFIGS,
    LocalNormSimClrConfig,
    PublishedClipObjectiveConfig,
    PublishedDeclipObjectiveConfig,
    PublishedDefilipObjectiveConfig,
    PublishedTokenPairsConfig,
)
from diptych.families.declip.upgrade import upgrade_objective
from diptych.models import build
from diptych.objectives import build_objective
from tests.objectives.composed import model_config

BEFORE = json.loads((Path(__file__).parent / "objectives_before.json").read_text())
"""Of every recipe as published: its objective, as run.json had it."""
CLIP = {
    "type": "ClipObjectiveConfig",
    "label_smoothing": 0.0,
    "min_logit_scale": 1.0,
    "max_logit_scale": 100.0,
    "largest_scale_used": None,
    "clamp_before_step": False,
    "tile": 512,
}
SIM_SIAM = {"type": "SimSiamConfig", "width": 8, "hidden": 4, "share_statistics": True}
TOKENS = {
    "type": "TokenPairsConfig",
    "keep": 3,
    "mask_padding": False,
    "min_logit_scale": 1.0,
    "max_logit_scale": 100.0,
    "clamp_before_step": False,
    "tile": 524288,
}
DEFILIP = {
    "type": "DefilipObjectiveConfig",
    "pairs": CLIP,
    "views": SIM_SIAM,
    "pairs_weight": 0.4,
    "views_weight": 0.2,
    "words_weight": 0.2,
    "neighbours_weight": 0.2,
    "queue": 16,
    "share_queue": True,
    "contrast_masked": False,
    "share_words": True,
    "tokens": TOKENS,
    "tokens_weight": 0.2,
}
SOUND = DefilipObjectiveConfig(
    views=SimSiamConfig(width=8, hidden=4), queue=16, tokens=TokenPairsConfig(keep=3)
)
WITHOUT = PublishedDefilipObjectiveConfig(
    pairs=SOUND.pairs,
    views=SOUND.views,
    queue=16,
    share_queue=True,
    contrast_masked=False,
    share_words=True,
    tokens=SOUND.tokens,
)
"""The published class, and nothing in it as published."""


def read(values) -> ObjectiveConfig:
    return from_dict(ObjectiveConfig, upgrade_objective(values))


def test_there_is_one_of_every_recipe():
    assert BEFORE.keys() == {name for name in recipes.names() if name.endswith("-as-published")}


@pytest.mark.parametrize("name", BEFORE)
def test_a_recipe_of_then_is_the_recipe_of_today(name):
    assert read(BEFORE[name]) == recipes.get(name).objective


@pytest.mark.parametrize("name", recipes.names())
def test_what_is_written_today_stays(name):
    values = to_dict(recipes.get(name).objective)
    assert upgrade_objective(values) == values
    assert read(values) == recipes.get(name).objective


def test_options_that_were_off_are_dropped():
    found = read(DEFILIP)
    assert found == SOUND
    assert type(found) is DefilipObjectiveConfig


@pytest.mark.parametrize(
    "option", [{"share_queue": False}, {"contrast_masked": True}, {"share_words": False}]
)
def test_each_option_of_declip_alone(option):
    assert read(DEFILIP | option) == replace(WITHOUT, **option)
    declip = {name: value for name, value in DEFILIP.items() if not name.startswith("tokens")}
    found = read(declip | option | {"type": "DeclipObjectiveConfig"})
    assert type(found) is PublishedDeclipObjectiveConfig
    assert {name: getattr(found, name) for name in option} == option


@pytest.mark.parametrize("option", [{"largest_scale_used": 50.0}, {"clamp_before_step": True}])
def test_each_option_of_the_contrast_alone(option):
    off = {
        "min_logit_scale": 1.0,
        "max_logit_scale": 100.0,
        "largest_scale_used": None,
        "clamp_before_step": False,
    }
    expected = PublishedClipObjectiveConfig(**off | option)
    assert read(CLIP | option) == expected
    assert read({"type": "ClipObjectiveConfig"} | option) == expected
    assert read(DEFILIP | {"pairs": CLIP | option}) == replace(SOUND, pairs=expected)


def test_tokens_that_were_clamped_twice():
    tokens = PublishedTokenPairsConfig(keep=3, min_logit_scale=1.0, max_logit_scale=100.0)
    found = read(DEFILIP | {"tokens": TOKENS | {"clamp_before_step": True}})
    assert found == replace(SOUND, tokens=tokens)


def test_statistics_of_each_process():
    views = {"type": "SimClrConfig", "hidden": 10, "out": 6, "temperature": 0.1}
    values = {"type": "SlipObjectiveConfig", "pairs": CLIP, "views_weight": 1.0}
    for share, kind in ((True, SimClrConfig), (False, LocalNormSimClrConfig)):
        found = read(values | {"views": views | {"share_statistics": share}})
        assert found == SlipObjectiveConfig(views=kind(hidden=10, out=6))


def test_others_come_back_as_they_are():
    values = {"type": "SiglipObjectiveConfig", "tile": 8}
    assert upgrade_objective(values) == values
    theirs = {"type": "somebody:TheirConfig", "clamp_before_step": True}
    assert upgrade_objective(theirs) == theirs
    assert upgrade_objective({"type": ["?"]}) == {"type": ["?"]}


@pytest.mark.parametrize(
    "values", [BEFORE["defilip-vit-b-32-yfcc15m-as-published"], DEFILIP], ids=["on", "off"]
)
def test_its_state_has_the_same_names(values):
    small = values | {"queue": 16, "views": values["views"] | {"width": 8, "hidden": 4}}
    torch.manual_seed(0)
    names = build_objective(read(small), build(model_config("defilip"))).state_dict().keys()
    torch.manual_seed(0)
    sound = build_objective(SOUND, build(model_config("defilip")))
    assert names == sound.state_dict().keys()


def test_published_ones_have_no_short_name():
    assert not any("alias" in vars(config) for config in CONFIGS)
    assert ObjectiveConfig.named("clip") is ClipObjectiveConfig
    assert ObjectiveConfig.named("declip") is DeclipObjectiveConfig
