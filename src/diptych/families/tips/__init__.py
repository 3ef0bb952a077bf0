"""TIPS and TIPSv2 (Maninis et al. 2024, arXiv:2410.16512; Cao et al. 2026, arXiv:2604.12012): a
vision transformer whose patches know their words, and a text transformer read out at its mean."""

from diptych.families.base import Family
from diptych.families.tips.config import TipsImageConfig, TipsTextConfig

__all__ = ["FAMILY", "TipsImageConfig", "TipsTextConfig"]

FAMILY = Family(
    name="tips",
    towers=(TipsImageConfig, TipsTextConfig),
    pretrained="diptych.families.tips.pretrained:entries",
    layouts="diptych.families.tips.layouts:layouts",
    open_clip="diptych.families.tips.layouts.open_clip:TOWERS",
)
