"""TIPS's weights: the authors' names are also those of transformers' folders; open_clip's layout is
shared (see `open_clip`)."""

from diptych.families.tips.layouts import transformers
from diptych.weights.layout import Layout

__all__ = ["layouts"]


def layouts() -> tuple[Layout, ...]:
    """The authors' and transformers'."""
    return (transformers.TIPS,)
