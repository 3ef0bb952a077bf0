"""Readers of the layouts in which sets lie on disk. Each answers None where it finds nothing."""

from collections.abc import Callable, Iterator

from diptych.components import callable_of
from diptych.datasets.entry import EvaluationSet, Found, Wanted
from diptych.datasets.layouts import (
    folders,
    imagenet,
    mirror,
    originals,
    pairs,
    tables,
    video,
    vision,
)
from diptych.datasets.layouts.base import Files
from diptych.errors import UnknownNameError

Reader = Callable[[Wanted], Found | None]

READERS: dict[str, Reader] = {
    "imagenet-flat": imagenet.flat,
    "voc": originals.voc,
    "voc-boxes": originals.voc_boxes,
    "objectnet": originals.objectnet,
    "caltech101": originals.caltech101,
    "captions": pairs.captions,
    "winoground": pairs.winoground,
    "sugarcrepe": pairs.sugarcrepe,
    "clips": video.clips,
    "ucf101": video.ucf101,
}


_TABLE_OF_ITS_OWN = ("winoground",)
"""Readers of tables that `tables` would misread: a row holds two pictures."""


def readers(entry: EvaluationSet) -> Iterator[Reader]:
    """The readers that fit a dataset, in the order in which they are asked: one that the entry
    brings itself stands first. Raises ConfigError for a reader that nobody knows."""
    own = entry.reader
    if callable(own):
        yield own
    elif ":" in own:
        yield callable_of(own, "reader of an evaluation dataset")
    yield mirror.read
    if isinstance(own, str) and own and ":" not in own:
        if own not in READERS:
            raise UnknownNameError("reader of evaluation datasets", own, READERS)
        yield READERS[own]
    yield vision.read
    if own not in _TABLE_OF_ITS_OWN:
        yield tables.read
    if entry.kind in ("zero-shot", "video"):
        yield folders.read


__all__ = ["Files", "READERS", "Reader", "readers"]
