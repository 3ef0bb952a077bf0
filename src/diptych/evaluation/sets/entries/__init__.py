"""The table of sets, one file per family."""

from diptych.evaluation.sets.entries.imagenet import IMAGENET
from diptych.evaluation.sets.entries.pairs import PAIRS
from diptych.evaluation.sets.entries.pictures import PICTURES
from diptych.evaluation.sets.entries.video import VIDEO
from diptych.evaluation.sets.entries.vtab import VTAB

ENTRIES = (*IMAGENET, *PICTURES, *VTAB, *VIDEO, *PAIRS)

__all__ = ["ENTRIES"]
