"""One table per published format, and the list of them."""

from diptych.checkpoints.formats.base import Format, Source
from diptych.checkpoints.formats.declip import DECLIP, DECLIP_IMAGE
from diptych.checkpoints.formats.eva import EVA
from diptych.checkpoints.formats.eva_image import EVA_IMAGE
from diptych.checkpoints.formats.eva_transformers import EVA_TRANSFORMERS
from diptych.checkpoints.formats.open_clip import OPEN_CLIP
from diptych.checkpoints.formats.transformers import TRANSFORMERS
from diptych.checkpoints.formats.unireplknet import UNIREPLKNET

FORMATS = (
    UNIREPLKNET,
    OPEN_CLIP,
    DECLIP,
    EVA,
    EVA_TRANSFORMERS,
    TRANSFORMERS,
    EVA_IMAGE,
    DECLIP_IMAGE,
)
"""Foreign formats, in the order in which they are tried: of two that share names, the more
particular one first."""

__all__ = [
    "DECLIP",
    "DECLIP_IMAGE",
    "EVA",
    "EVA_IMAGE",
    "EVA_TRANSFORMERS",
    "FORMATS",
    "OPEN_CLIP",
    "TRANSFORMERS",
    "UNIREPLKNET",
    "Format",
    "Source",
]
