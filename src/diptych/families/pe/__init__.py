"""The Perception Encoder, PE-Core (Bolya et al. 2025, arXiv:2504.13181): a vision transformer with
rotary positions and an attention pool beside CLIP's text transformer."""

from diptych.families.base import Family
from diptych.families.pe.config import PeImageConfig

__all__ = ["FAMILY", "PeImageConfig"]

FAMILY = Family(
    name="pe",
    towers=(PeImageConfig,),
    pretrained="diptych.families.pe.pretrained:entries",
    layouts="diptych.families.pe.layouts:layouts",
    open_clip="diptych.families.pe.layouts.timm:TOWERS",
)
