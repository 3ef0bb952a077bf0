"""What a model is, by its configuration and by itself, and what that means for data and losses."""

from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from torch import nn

from diptych import compat
from diptych.compat.losses.choice import create_loss_from_args
from diptych.compat.model_traits import (
    CLAP_TRAITS,
    CLIP_TRAITS,
    COCA_TRAITS,
    GENLIP_TRAITS,
    MAMMUT_TRAITS,
    InputMode,
    ModelFamily,
    get_model_traits,
    traits_from_config,
    traits_from_model,
)
from diptych.compat.open_clip_train.params import apply_model_traits, parse_args
from diptych.errors import ConfigError
from tests.compat.peers import KINDS


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"vision_cfg": {"layers": 1}, "text_cfg": {}}, CLIP_TRAITS),
        ({"model_cfg": {"vision_cfg": {"layers": 1}, "text_cfg": {}}}, CLIP_TRAITS),
        (
            {"vision_cfg": {"timm_model_name": "naflexvit_base"}, "text_cfg": {}},
            replace(CLIP_TRAITS, image_input=InputMode.NAFLEX),
        ),
        (
            {"vision_cfg": {"timm_model_kwargs": {"use_naflex": True}}},
            replace(CLIP_TRAITS, image_input=InputMode.NAFLEX),
        ),
        ({"multimodal_cfg": {}, "text_cfg": {}, "vision_cfg": {"layers": 1}}, COCA_TRAITS),
        (
            {"multimodal_cfg": {"variable_text": True}, "vision_cfg": {"layers": 1}},
            replace(MAMMUT_TRAITS, variable_text=True),
        ),
        ({"genlip_cfg": {}}, GENLIP_TRAITS),
        ({"audio_cfg": {"model_type": "HTSAT"}, "text_cfg": {}}, CLAP_TRAITS),
    ],
)
def test_a_configuration_says_what_it_describes(config, expected):
    assert traits_from_config(config) == expected


def test_a_model_says_it_too():
    made = compat.CLIP(**KINDS["quick"])
    assert get_model_traits(made) == traits_from_config(KINDS["quick"]) == CLIP_TRAITS
    assert get_model_traits(nn.DataParallel(made)) == CLIP_TRAITS
    assert get_model_traits(torch.compile(made, backend="eager")) == CLIP_TRAITS
    assert compat.CoCa.traits == COCA_TRAITS
    assert COCA_TRAITS.wants_text_valid_key > GENLIP_TRAITS.wants_text_valid_key
    with pytest.raises(TypeError, match="Linear declares no ModelTraits"):
        traits_from_model(nn.Linear(1, 1))


def test_a_subclass_without_the_constructor_is_described_by_its_towers():
    class Trunk(nn.Module):
        pass

    class Bare(compat.CLIP):
        def __init__(self, trunk, variable_text):
            nn.Module.__init__(self)
            self.visual = Namespace(trunk=trunk)
            self.text = Namespace(variable_text=variable_text)

    patches = type("NaFlexVit", (Trunk,), {})
    assert get_model_traits(Bare(Trunk(), False)) == CLIP_TRAITS
    made = Bare(patches(), True)
    found = replace(CLIP_TRAITS, image_input=InputMode.NAFLEX, variable_text=True)
    assert get_model_traits(made) == found
    made.traits = CLIP_TRAITS
    assert get_model_traits(made) is CLIP_TRAITS


def test_the_loss_goes_by_traits_and_not_by_a_name():
    args = Namespace(model="coca_ViT-B-32", siglip=True, rank=1, world_size=2)
    args.coca_caption_loss_weight, args.coca_contrastive_loss_weight = 3.0, 0.5
    kinds = {"clip": "SigLipLoss", "coca": "CoCaLoss", "genlip": "GenLipLoss"}
    for traits in (CLIP_TRAITS, COCA_TRAITS, GENLIP_TRAITS):
        found = create_loss_from_args(args, Namespace(traits=traits, pad_id=7))
        assert type(found).__name__ == kinds[traits.family]
    captions = create_loss_from_args(args, Namespace(traits=COCA_TRAITS, pad_id=7))
    assert (captions.caption_loss_weight, captions.pad_id, captions.rank) == (3.0, 7, 1)


@pytest.mark.parametrize("traits", [COCA_TRAITS, GENLIP_TRAITS, CLAP_TRAITS])
def test_what_is_not_distilled_is_refused_everywhere(traits):
    args = parse_args([])
    args.distill = True
    model = nn.Module()
    model.traits = traits
    for asked in (
        lambda: apply_model_traits(args, traits),
        lambda: create_loss_from_args(args, model),
        lambda: compat.create_task(args, model),
    ):
        with pytest.raises(ConfigError, match="distillation is not supported"):
            asked()


def test_arguments_follow_from_traits():
    args = apply_model_traits(parse_args([]), CLIP_TRAITS)
    assert [args.use_naflex, args.variable_text, args.text_attention_mask] == [False] * 3
    assert apply_model_traits(parse_args([]), COCA_TRAITS).text_attention_mask
    args = apply_model_traits(parse_args([]), GENLIP_TRAITS)
    assert (args.use_naflex, args.variable_text, args.text_attention_mask) == (True, True, False)
    assert args.aug_cfg["naflex"]
    apply_model_traits(parse_args(["--accum-freq", "2"]), COCA_TRAITS)
    for words, changes, traits, message in (
        (["--accum-freq", "2"], {}, GENLIP_TRAITS, "--accum-freq 2: a genlip model"),
        ([], {"use_naflex": True}, CLIP_TRAITS, "NaFlex-capable"),
        ([], {"text_attention_mask": True}, GENLIP_TRAITS, "takes no mask"),
    ):
        args = parse_args(words)
        vars(args).update(changes)
        with pytest.raises(ConfigError, match=message):
            apply_model_traits(args, traits)
    assert ModelFamily.CLIP == "clip"
