"""SigLIP's weights: open_clip's layout is shared (see `open_clip`), the authors' and transformers'
its own."""

from diptych.families.siglip.layouts import big_vision, transformers
from diptych.weights.layout import Layout

__all__ = ["layouts"]


def layouts() -> tuple[Layout, ...]:
    """big_vision's and transformers'."""
    return (big_vision.BIG_VISION, transformers.SIGLIP_TRANSFORMERS)
