"""CLIP (Radford et al. 2021, arXiv:2103.00020): its towers, on which other families build; the
layouts of OpenAI, open_clip and transformers; published weights; recipes."""

from diptych.families.base import Family
from diptych.families.clip.config import ResNetConfig, TextConfig, VitConfig

__all__ = ["FAMILY", "ResNetConfig", "TextConfig", "VitConfig"]

FAMILY = Family(
    name="clip",
    towers=(VitConfig, ResNetConfig, TextConfig),
    pretrained="diptych.families.clip.pretrained:entries",
    repositories="diptych.families.clip.hub:repositories",
    recipes=("diptych.families.clip.recipes",),
    layouts="diptych.families.clip.layouts:layouts",
    open_clip="diptych.families.clip.layouts.towers:TOWERS",
)
