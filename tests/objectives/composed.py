"""The composed objectives with all their parts, small."""

from dataclasses import replace

import torch

from diptych.batch import Batch
from diptych.config import (
    ClipConfig,
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
from tests.objectives.small import small_config

SIM_CLR, SIM_SIAM = SimClrConfig(hidden=10, out=6), SimSiamConfig(width=8, hidden=4)
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
    "defilip": DefilipObjectiveConfig(views=SIM_SIAM, queue=16, tokens=TokenPairsConfig(keep=3)),
}


def model_config(name: str) -> ClipConfig:
    bias = -10.0 if "siglip" in name else None
    return replace(small_config(), token_dim=7, logit_bias=bias)


def batch(views, pairs: int, dtype: torch.dtype = torch.float64, size: int = 16) -> Batch:
    """Drawn from torch's generator; captions end at different places, and every second word is
    hidden."""
    texts = torch.randint(1, 29, (pairs, 6))
    texts[torch.arange(pairs), torch.randint(2, 6, (pairs,))] = 29
    mlm_labels = torch.where(torch.arange(6) % 2 == 1, texts, -100)
    images = tuple(torch.randn(pairs, 3, size, size, dtype=dtype) for _ in views.image)
    return Batch(
        images=images,
        texts=tuple(texts for _ in views.text),
        index=torch.arange(pairs),
        mlm_labels=mlm_labels,
    )
