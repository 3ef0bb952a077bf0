"""Readers of the layouts in which sets lie on disk. Each answers None where it finds nothing."""

from collections.abc import Callable, Iterator

from diptych.evaluation.sets.entry import EvaluationSet
from diptych.evaluation.sets.layouts import folders, mirror, originals, pairs, tables, video, vision
from diptych.evaluation.sets.layouts.base import Found, Wanted

Reader = Callable[[Wanted], Found | None]

ORIGINALS: dict[str, Reader] = {
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


def readers(entry: EvaluationSet) -> Iterator[Reader]:
    """The readers that fit a set, in the order in which they are asked."""
    yield mirror.read
    if entry.original:
        yield ORIGINALS[entry.original]
    yield vision.read
    if entry.original != "winoground":
        yield tables.read
    if entry.task in ("zero-shot", "video"):
        yield folders.read


__all__ = ["Found", "ORIGINALS", "Reader", "Wanted", "readers"]
