"""A model and batches that cost nothing."""

import torch

from diptych.batch import Batch
from diptych.config import ClipConfig
from diptych.families.clip import TextConfig, VitConfig
from diptych.families.eva import EvaConfig

SMALL_EVA = EvaConfig(
    image_size=16,
    patch_size=4,
    width=16,
    layers=2,
    heads=2,
    mlp_width=24,
    mlp="swiglu",
    mlp_norm=True,
    rotary_grid=4,
)


def small_config() -> ClipConfig:
    return ClipConfig(
        image=VitConfig(
            image_size=16,
            patch_size=4,
            width=16,
            layers=2,
            heads=2,
            mlp_width=32,
        ),
        text=TextConfig(context_length=6, vocab_size=30, width=16, layers=2, heads=2, mlp_width=32),
        embed_dim=12,
    )


def batch_of(pairs: int, dtype: torch.dtype = torch.float32) -> Batch:
    """Drawn from torch's generator."""
    return Batch(
        images=(torch.randn(pairs, 3, 16, 16, dtype=dtype),),
        texts=(torch.randint(1, 30, (pairs, 6)),),
        index=torch.arange(pairs),
    )
