"""Where pairs come from and how they reach the device: sources, the order, the loader.

A source gives `len`, a sample by number, where it lies, and a line about itself. The order is
arithmetic on the seed and the step. The loader puts them together.
"""

from diptych.data.bad import BadSamples
from diptych.data.loader import Loader
from diptych.data.order import Order
from diptych.data.shards import Shards, write_shards
from diptych.data.source import BadSample, Source, read_class_names
from diptych.data.sources import class_names_of, open_source

__all__ = [
    "BadSample",
    "BadSamples",
    "Loader",
    "Order",
    "Shards",
    "Source",
    "class_names_of",
    "open_source",
    "read_class_names",
    "write_shards",
]
