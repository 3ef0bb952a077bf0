"""EVA-CLIP's layouts: its authors' files, its folders for transformers, image towers alone."""

from diptych.families.eva.layouts.eva import EVA
from diptych.families.eva.layouts.image import EVA_IMAGE
from diptych.families.eva.layouts.transformers import EVA_TRANSFORMERS
from diptych.weights.layout import Layout

__all__ = ["layouts"]


def layouts() -> tuple[Layout, ...]:
    """All of them."""
    return EVA, EVA_TRANSFORMERS, EVA_IMAGE
