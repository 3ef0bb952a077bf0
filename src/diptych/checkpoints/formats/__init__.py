"""One table per published format, and the list of them."""

from diptych.checkpoints.formats.base import Format, Source
from diptych.checkpoints.formats.open_clip import OPEN_CLIP
from diptych.checkpoints.formats.transformers import TRANSFORMERS

FORMATS = (OPEN_CLIP, TRANSFORMERS)
"""Foreign formats, in the order in which they are tried."""

__all__ = ["FORMATS", "OPEN_CLIP", "TRANSFORMERS", "Format", "Source"]
