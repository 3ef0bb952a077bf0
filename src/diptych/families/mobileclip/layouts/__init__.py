"""MobileCLIP's weights: Apple's own layout; open_clip's is shared (see `open_clip`)."""

from diptych.families.mobileclip.layouts import apple
from diptych.weights.layout import Layout

__all__ = ["layouts"]


def layouts() -> tuple[Layout, ...]:
    """Apple's."""
    return (apple.MOBILECLIP,)
