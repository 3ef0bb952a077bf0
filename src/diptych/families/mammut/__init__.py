"""MaMMUT (Kuo et al. 2023, arXiv:2303.16839) as LAION trained it and open_clip has it: an image
tower, and one text decoder that is used twice, for the contrast and for captions."""

from diptych.families.base import Family
from diptych.families.mammut.config import MammutDecoderConfig, MammutTextConfig

__all__ = ["FAMILY", "MammutDecoderConfig", "MammutTextConfig"]

FAMILY = Family(
    name="mammut",
    towers=(MammutTextConfig, MammutDecoderConfig),
    pretrained="diptych.families.mammut.pretrained:entries",
    recipes=("diptych.families.mammut.recipes",),
    layouts="diptych.families.mammut.layouts:layouts",
    open_clip="diptych.families.mammut.open_clip:TOWERS",
)
