"""The table of sets, one file per family."""

from diptych.datasets.entries.imagenet import IMAGENET
from diptych.datasets.entries.pairs import PAIRS
from diptych.datasets.entries.pictures import PICTURES
from diptych.datasets.entries.video import VIDEO
from diptych.datasets.entries.vtab import VTAB

ENTRIES = (*IMAGENET, *PICTURES, *VTAB, *VIDEO, *PAIRS)

__all__ = ["ENTRIES"]
