"""open_clip's "modern" texts (https://github.com/mlfoundations/open_clip, main branch of 2026): a
text tower, and decoders for CoCa and MaMMUT, of recent language models' blocks. No weights are
published."""

from diptych.families.base import Family
from diptych.families.modern.config import (
    ModernDecoderConfig,
    ModernTextConfig,
    TwoPassReadersConfig,
    TwoPassTextConfig,
)

__all__ = [
    "FAMILY",
    "ModernDecoderConfig",
    "ModernTextConfig",
    "TwoPassReadersConfig",
    "TwoPassTextConfig",
]

FAMILY = Family(
    name="modern",
    towers=(ModernTextConfig, ModernDecoderConfig, TwoPassTextConfig, TwoPassReadersConfig),
    pretrained="diptych.families.modern.pretrained:entries",
    open_clip="diptych.families.modern.layouts:TOWERS",
)
