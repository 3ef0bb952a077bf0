"""GenLIP (Fang et al. 2026, "Let ViT Speak", arXiv:2605.00809): vision transformers that were
trained to write captions, as image towers."""

from diptych.families.base import Family
from diptych.families.genlip.config import GenlipImageConfig, GenlipNaflexConfig

__all__ = ["FAMILY", "GenlipImageConfig", "GenlipNaflexConfig"]

FAMILY = Family(
    name="genlip",
    towers=(GenlipImageConfig, GenlipNaflexConfig),
    pretrained="diptych.families.genlip.pretrained:entries",
    layouts="diptych.families.genlip.layouts:layouts",
    open_clip="diptych.families.genlip.layouts.open_clip:TOWERS",
)
