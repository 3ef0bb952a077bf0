"""GenLIP's weights: the authors', and open_clip's of what writes captions; open_clip's layout of
CLIP models is shared (see `open_clip`)."""

from diptych.families.genlip.layouts import authors, captioner
from diptych.weights.layout import Layout

__all__ = ["layouts"]


def layouts() -> tuple[Layout, ...]:
    """The authors' and open_clip's."""
    return (authors.GENLIP, captioner.CAPTIONER)
