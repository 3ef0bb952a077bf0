"""Any image tower of the `timm` library, with a projection to the shared space; the
published models of such a tower beside CLIP's text tower."""

from diptych.families.base import Family
from diptych.families.timm.config import NaflexVitConfig, TimmConfig

__all__ = ["FAMILY", "NaflexVitConfig", "TimmConfig"]

FAMILY = Family(
    name="timm",
    towers=(TimmConfig, NaflexVitConfig),
    pretrained="diptych.families.timm.pretrained:entries",
    layouts="diptych.families.timm.alone:layouts",
    open_clip="diptych.families.timm.layouts:OPEN_CLIP",
)
