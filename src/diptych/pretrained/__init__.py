"""Named models: their configurations, where weights lie, and what was claimed for them. No torch in
here."""

from diptych.families import Claim, Entry, Weights
from diptych.pretrained.lookup import (
    entry,
    get,
    identify,
    means_weights,
    names,
    published,
    repository,
    tagged,
    tower,
    weights,
    weights_of,
)
from diptych.pretrained.sizes import sizes

__all__ = [
    "Claim",
    "Entry",
    "Weights",
    "entry",
    "get",
    "identify",
    "means_weights",
    "names",
    "published",
    "repository",
    "sizes",
    "tagged",
    "tower",
    "weights",
    "weights_of",
]
