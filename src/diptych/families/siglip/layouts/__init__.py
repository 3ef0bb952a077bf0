"""SigLIP's weights: open_clip's layout is shared (see `open_clip`), transformers' its own."""

from diptych.families.siglip.layouts import transformers
from diptych.weights.layout import Layout

__all__ = ["layouts"]


def layouts() -> tuple[Layout, ...]:
    """transformers'."""
    return (transformers.SIGLIP_TRANSFORMERS,)
