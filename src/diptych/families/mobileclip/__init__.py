"""MobileCLIP (Vasu et al. 2024, arXiv:2311.17049) and MobileCLIP2 (Faghri et al. 2025,
arXiv:2508.20691): image towers of timm, text towers that look both ways."""

from diptych.families.base import Family
from diptych.families.mobileclip.config import MobileTextConfig

__all__ = ["FAMILY", "MobileTextConfig"]

FAMILY = Family(
    name="mobileclip",
    towers=(MobileTextConfig,),
    pretrained="diptych.families.mobileclip.pretrained:entries",
    layouts="diptych.families.mobileclip.layouts:layouts",
    open_clip="diptych.families.mobileclip.layouts.open_clip:OPEN_CLIP",
)
