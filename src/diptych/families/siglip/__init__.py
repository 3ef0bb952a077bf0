"""SigLIP (Zhai et al. 2023, arXiv:2303.15343) and SigLIP 2 (Tschannen et al. 2025,
arXiv:2502.14786): a vision transformer with an attention pool, a text transformer that looks both
ways."""

from diptych.families.base import Family
from diptych.families.siglip.config import NaflexImageConfig, SiglipImageConfig, SiglipTextConfig

__all__ = ["FAMILY", "NaflexImageConfig", "SiglipImageConfig", "SiglipTextConfig"]

FAMILY = Family(
    name="siglip",
    towers=(SiglipImageConfig, NaflexImageConfig, SiglipTextConfig),
    pretrained="diptych.families.siglip.pretrained_naflex:entries",
    layouts="diptych.families.siglip.layouts:layouts",
    open_clip="diptych.families.siglip.layouts.open_clip:TOWERS",
)
