"""Layouts of CLIP's weights that others share: OpenAI's names, open_clip's, transformers'; and our
own names."""

from diptych.families.clip.layouts import open_clip, own, transformers
from diptych.weights.layout import Layout

__all__ = ["layouts"]


def layouts() -> tuple[Layout, ...]:
    """open_clip's, whose names are OpenAI's, transformers', ours."""
    return open_clip.layout(), transformers.LAYOUT, own.OWN
