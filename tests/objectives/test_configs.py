"""What objectives ask of a new model."""

import math
from dataclasses import replace

import pytest

from diptych.config import (
    ClipConfig,
    ClipObjectiveConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    FilipObjectiveConfig,
    SiglipObjectiveConfig,
    SlipObjectiveConfig,
    TokenizerConfig,
)
from diptych.families.clip import TextConfig, VitConfig

PLAIN, SIGLIP = ClipConfig(image=VitConfig(), text=TextConfig()), SiglipObjectiveConfig()
BIASED = replace(PLAIN, logit_scale=math.log(10), logit_bias=-10.0)
MASKING = {
    "text": TextConfig(vocab_size=49409),
    "tokenizer": TokenizerConfig(kind="declip"),
}
"""With a token for masked words, which CLIP's vocabulary lacks."""


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (ClipObjectiveConfig(), PLAIN),
        (SlipObjectiveConfig(), PLAIN),
        (DeclipObjectiveConfig(), replace(PLAIN, **MASKING)),
        (SIGLIP, BIASED),
        (SlipObjectiveConfig(pairs=SIGLIP), BIASED),
        (DeclipObjectiveConfig(pairs=SIGLIP), replace(BIASED, **MASKING)),
        (FilipObjectiveConfig(), replace(PLAIN, token_dim=256)),
        (DefilipObjectiveConfig(pairs=SIGLIP), replace(BIASED, token_dim=256, **MASKING)),
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_model_gets_what_the_objective_needs(objective, expected):
    assert objective.adapt(PLAIN) == expected
    assert objective.adapt(expected) == expected


def test_what_a_model_has_stays():
    model = replace(PLAIN, token_dim=7, logit_bias=-3.0, logit_scale=1.0, **MASKING)
    assert DefilipObjectiveConfig(pairs=SIGLIP).adapt(model) == model
