"""Any image tower of the `timm` library, with a linear projection to the shared space."""

from diptych.families.base import Family
from diptych.families.timm.config import TimmConfig

__all__ = ["FAMILY", "TimmConfig"]

FAMILY = Family(
    name="timm", towers=(TimmConfig,), open_clip="diptych.families.timm.layouts:OPEN_CLIP"
)
