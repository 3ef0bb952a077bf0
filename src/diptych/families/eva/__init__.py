"""EVA-CLIP in all its generations (Sun et al. 2023 and 2024, arXiv:2303.15389, arXiv:2402.04252),
and the image towers of masked image modelling from which its training started."""

from diptych.families.base import Family
from diptych.families.eva.config import EvaConfig

__all__ = ["FAMILY", "EvaConfig"]

FAMILY = Family(
    name="eva",
    towers=(EvaConfig,),
    pretrained="diptych.families.eva.pretrained:entries",
    layouts="diptych.families.eva.layouts:layouts",
    recipes=("diptych.families.eva.recipes_mim", "diptych.families.eva.recipes"),
    open_clip="diptych.families.eva.layouts.timm:OPEN_CLIP",
)
