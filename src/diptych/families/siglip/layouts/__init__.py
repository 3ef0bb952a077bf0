"""SigLIP's weights: open_clip's layout is shared (see `open_clip`), the authors', transformers' and
timm's of NaFlex its own."""

from diptych.families.siglip.layouts import big_vision, timm_naflex, transformers
from diptych.weights.layout import Layout

__all__ = ["layouts"]


def layouts() -> tuple[Layout, ...]:
    """big_vision's, transformers' and timm's."""
    return (
        big_vision.BIG_VISION,
        transformers.SIGLIP_TRANSFORMERS,
        timm_naflex.TIMM_NAFLEX,
    )
