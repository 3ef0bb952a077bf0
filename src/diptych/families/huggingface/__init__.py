"""Any text encoder of the `transformers` library, pooled and projected to the shared space, and the
published models with one."""

from diptych.families.base import Family
from diptych.families.huggingface.config import HuggingFaceTextConfig

__all__ = ["FAMILY", "HuggingFaceTextConfig"]

FAMILY = Family(
    name="huggingface",
    towers=(HuggingFaceTextConfig,),
    pretrained="diptych.families.huggingface.pretrained:entries",
    layouts="diptych.families.huggingface.folders:layouts",
    open_clip="diptych.families.huggingface.layouts:OPEN_CLIP",
)
