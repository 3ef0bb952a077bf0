"""UniRepLKNet, ConvNets of large kernels (Ding et al. 2024, arXiv:2311.15599), and the CLIP model
around the large one (Zhang et al. 2024, arXiv:2410.08049)."""

from diptych.families.base import Family
from diptych.families.unireplknet.config import UniRepLKNetConfig

__all__ = ["FAMILY", "UniRepLKNetConfig"]

FAMILY = Family(
    name="unireplknet",
    towers=(UniRepLKNetConfig,),
    pretrained="diptych.families.unireplknet.pretrained:entries",
    recipes=("diptych.families.unireplknet.recipes",),
    layouts="diptych.families.unireplknet.layouts:layouts",
    open_clip="diptych.families.unireplknet.layouts.timm:OPEN_CLIP",
)
