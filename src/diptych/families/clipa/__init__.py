"""CLIPA (Li et al. 2023, arXiv:2305.07017 and arXiv:2306.15658) and OpenVision (Li et al. 2025,
arXiv:2505.04601): CLIP's vision transformer read out at the patches' mean, short texts of BERT's
words, a text transformer that looks both ways."""

from diptych.families.base import Family
from diptych.families.clipa.config import ClipaTextConfig

__all__ = ["FAMILY", "ClipaTextConfig"]

FAMILY = Family(
    name="clipa",
    towers=(ClipaTextConfig,),
    pretrained="diptych.families.clipa.pretrained:entries",
    open_clip="diptych.families.clipa.layouts:OPEN_CLIP",
)
