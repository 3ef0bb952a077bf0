"""CoCa (Yu et al. 2022, arXiv:2205.01917) as open_clip trained it: an image tower with an attention
pool of many queries, a text tower with a class token, and a decoder that writes captions."""

from diptych.families.base import Family
from diptych.families.coca.config import (
    Coca2ImageConfig,
    CocaDecoderConfig,
    CocaImageConfig,
    CocaNaflexConfig,
    CocaTextConfig,
)

__all__ = [
    "FAMILY",
    "Coca2ImageConfig",
    "CocaDecoderConfig",
    "CocaImageConfig",
    "CocaNaflexConfig",
    "CocaTextConfig",
]

FAMILY = Family(
    name="coca",
    towers=(CocaImageConfig, Coca2ImageConfig, CocaNaflexConfig, CocaTextConfig, CocaDecoderConfig),
    pretrained="diptych.families.coca.pretrained:entries",
    recipes=("diptych.families.coca.recipes",),
    open_clip="diptych.families.coca.layouts:TOWERS",
)
