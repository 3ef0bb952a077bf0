"""The composed objectives with all their parts, small."""

from dataclasses import replace

import torch

from diptych.batch import Batch, TextLengths
from diptych.config import (
    ClipConfig,
    CocaObjectiveConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    FilipObjectiveConfig,
    ObjectiveConfig,
    SiglipObjectiveConfig,
    SimClrConfig,
    SimSiamConfig,
    SlipObjectiveConfig,
    TokenPairsConfig,
)
from diptych.families.clip import VitConfig
from diptych.families.coca import CocaDecoderConfig, CocaImageConfig, CocaTextConfig
from diptych.families.mammut import MammutDecoderConfig, MammutTextConfig
from diptych.families.modern import TwoPassReadersConfig, TwoPassTextConfig
from tests.objectives.small import small_config

SIM_CLR, SIM_SIAM = SimClrConfig(hidden=10, out=6), SimSiamConfig(width=8, hidden=4)
CONTEXT = 20
CONFIGS: dict[str, ObjectiveConfig] = {
    "slip": SlipObjectiveConfig(views=SIM_CLR),
    "slip, simsiam": SlipObjectiveConfig(views=SIM_SIAM),
    "slip, siglip": SlipObjectiveConfig(views=SIM_CLR, pairs=SiglipObjectiveConfig()),
    "declip": DeclipObjectiveConfig(views=SIM_SIAM, queue=16),
    "declip, siglip": DeclipObjectiveConfig(
        views=SIM_SIAM, queue=16, pairs=SiglipObjectiveConfig()
    ),
    "filip": FilipObjectiveConfig(tokens=TokenPairsConfig(keep=3)),
    "filip, all tokens, no padding": FilipObjectiveConfig(
        tokens=TokenPairsConfig(keep=None, mask_padding=True)
    ),
    "filip, many tokens, no padding": FilipObjectiveConfig(
        tokens=TokenPairsConfig(keep=10, mask_padding=True)
    ),
    "defilip": DefilipObjectiveConfig(views=SIM_SIAM, queue=16, tokens=TokenPairsConfig(keep=3)),
    "coca": CocaObjectiveConfig(tile=7),
    "coca, siglip": CocaObjectiveConfig(tile=7, pairs=SiglipObjectiveConfig()),
    "coca, mammut": CocaObjectiveConfig(tile=7),
    "coca, mammut, tied": CocaObjectiveConfig(tile=7),
}


SIZES: dict[str, int] = {"width": 8, "layers": 1, "heads": 2, "mlp_width": 12}
WORDS: dict[str, int] = {"context_length": CONTEXT, "vocab_size": 30, **SIZES}
COCA = ClipConfig(
    image=CocaImageConfig(image_size=16, patch_size=8, queries=3, pool_heads=2, **SIZES),
    text=CocaTextConfig(**WORDS),
    decoder=CocaDecoderConfig(**WORDS),
    embed_dim=8,
)
MAMMUT = ClipConfig(
    image=VitConfig(image_size=16, patch_size=8, pool="all", **SIZES),
    text=MammutTextConfig(**WORDS, pool="all", masked=False),
    decoder=MammutDecoderConfig(**WORDS, every=1, picture_width=8),
    embed_dim=8,
)


TIED = replace(
    MAMMUT,
    text=TwoPassTextConfig(**WORDS, start_id=28, end_id=29, pad_id=0),
    decoder=TwoPassReadersConfig(**WORDS, every=1, picture_width=8, tied=True),
)


def model_config(name: str) -> ClipConfig:
    bias = -10.0 if "siglip" in name else None
    if "tied" in name:
        return TIED
    if "mammut" in name:
        return MAMMUT
    if "coca" in name:
        return replace(COCA, logit_bias=bias)
    small = small_config()
    text = replace(small.text, context_length=CONTEXT)
    return replace(small, text=text, token_dim=7, logit_bias=bias)


def batch(views, pairs: int, dtype: torch.dtype = torch.float64, size: int = 16) -> Batch:
    """Drawn from torch's generator; captions end at different places, with anything behind their
    end, and every second word is hidden."""
    texts = torch.randint(1, 29, (pairs, CONTEXT))
    ends = torch.randint(2, CONTEXT, (pairs,))
    texts[torch.arange(pairs), ends] = 29
    places = torch.arange(CONTEXT)
    mlm_labels = torch.where((places % 2 == 1) & (places <= ends[:, None]), texts, -100)
    images = tuple(torch.randn(pairs, 3, size, size, dtype=dtype) for _ in views.image)
    return Batch(
        images=images,
        texts=tuple(texts for _ in views.text),
        index=torch.arange(pairs),
        mlm_labels=mlm_labels,
        lengths=tuple(TextLengths.of((ends + 1).tolist()) for _ in views.text),
    )
