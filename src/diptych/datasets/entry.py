"""What is known about an evaluation dataset before any file is opened, and what a reader of its
files is asked and gives."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from diptych.data.source import Captioner, Source
from diptych.data.splits import SPLITS
from diptych.datasets.places import places
from diptych.errors import ConfigError, UnknownNameError

Kind = Literal["zero-shot", "multilabel", "retrieval", "choice", "video"]
"""`zero-shot`: one class a picture. `multilabel`: several. `retrieval`: captions. `choice`: which
of the captions fits (Winoground, SugarCrepe). `video`: one class a clip, which is seen by its
middle frame, or by several."""
Metric = Literal[
    "top1", "mean_per_class", "mean_top1_top5", "map", "map11", "auc", "mean_recall", "choice"
]
"""`mean_top1_top5`: their mean. `map`: mean over classes of average precision; `map11`: of the
11-point interpolated one (Everingham et al. 2010). `auc`: area under the ROC curve of a dataset of
two classes."""
METRICS: dict[Kind, tuple[Metric, ...]] = {
    "zero-shot": ("top1", "mean_per_class", "mean_top1_top5", "auc"),
    "video": ("top1", "mean_per_class", "mean_top1_top5"),
    "multilabel": ("map", "map11"),
    "retrieval": ("mean_recall",),
    "choice": ("choice",),
}
"""Figures that a dataset of each kind can be known by."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """One evaluation dataset, as Diptych scores it unless a `Profile` says otherwise.

    One of your own is a value in a module of yours, and goes by `package.module:NAME` or
    `folder/file.py:NAME` wherever the name of one of ours does:

    >>> from diptych.datasets import EvaluationSet
    >>> SHAPES = EvaluationSet(
    ...     name="shapes",
    ...     title="Shapes",
    ...     classes=2,
    ...     class_names=("circle", "square"),
    ...     templates=("a drawing of a {}.",),
    ...     reader="my_package.shapes:read",
    ... )
    >>> SHAPES.folders, SHAPES.metric
    (('shapes',), 'top1')
    """

    name: str
    title: str
    kind: Kind = "zero-shot"
    classes: int = 0
    """How many; 0 where there are only captions, or as many as `class_names`."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Samples of a split. `all`: every split together. A split that is missing here has no agreed
    size."""
    metric: Metric | Literal[""] = ""
    """Empty: the first of `METRICS` for the kind."""
    class_names: tuple[str, ...] = ()
    """In class order; empty: those of the file of prompts."""
    templates: tuple[str, ...] = ()
    """Captions of a class, with `{}` for its name; empty: those of the file of prompts."""
    prompts: str | os.PathLike[str] = ""
    """The JSON file of class names and templates: NAME for one of ours, `prompts/NAME.json`, or the
    path of one of yours, which ends in .json; empty: the dataset's own name."""
    mirrors: tuple[str, ...] = ()
    """Names in CLIP_benchmark, which are also names here. `vtab/dtd` lies in the folder
    `wds_vtab-dtd`."""
    torchvision: str = ""
    """The class in torchvision.datasets that reads the publisher's layout."""
    reader: "str | Callable[[Wanted], Found | None]" = ""
    """Who reads the publisher's layout: one of ours by name (`layouts.READERS`), a function, or
    `package.module:function`. It is asked for one split and gives samples, or None where it finds
    nothing. Folders of classes, tables and CLIP_benchmark's shards need none."""
    aliases: tuple[str, ...] = ()
    how_to_get: str = ""
    """Beside the mirror and torchvision: what to fetch, and where it must lie."""
    licence: str = "not stated"
    """Of the pictures, in the words of their publisher."""
    source: str = ""
    """The paper or page that the dataset comes from."""
    note: str = ""
    """What changes numbers, or what people get wrong."""

    def __post_init__(self):
        if self.kind not in METRICS:
            raise UnknownNameError("kind of evaluation dataset", self.kind, METRICS)
        object.__setattr__(self, "metric", self.metric or METRICS[self.kind][0])
        object.__setattr__(self, "classes", self.classes or len(self.class_names))
        if self.metric not in METRICS[self.kind]:
            known = ", ".join(METRICS[self.kind])
            raise ConfigError(
                f"{self.name}: a {self.kind} dataset isn't scored by {self.metric}, but by {known}"
            )
        if self.kind not in ("retrieval", "choice") and not self.classes:
            raise ConfigError(
                f"{self.name} says neither class_names nor how many classes there are"
            )
        if self.class_names and len(set(self.class_names)) != self.classes:
            raise ConfigError(
                f"{self.name} has {self.classes} classes, but "
                f"{len(set(self.class_names))} different class_names"
            )

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of folders below the data root at which the dataset is looked for, in any spelling:
        of the mirrors, then its own."""
        mirrors = (f"wds_{mirror.replace('/', '-')}" for mirror in self.mirrors)
        return (*mirrors, self.name, *self.aliases)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a reader is asked for: one split of one dataset, below one folder."""

    entry: EvaluationSet
    split: str
    """`train`, `val` or `test`; `all` is every split together."""
    root: Path
    """The data root."""
    cache: Path
    """Where indexes of shards are kept."""
    ignore_difficult: bool = False
    """See `Profile`."""
    frames: int = 1
    """Of each clip."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of the dataset that exist, in any spelling, the mirrors' first."""
        return places(self.root, self.entry.folders)

    def split_names(self, split: str = "") -> tuple[str, ...]:
        """What the split may be called. A validation split is the test where the dataset has no
        other."""
        split = split or self.split
        names = SPLITS.get(split, (split,))
        return (
            (*names, *SPLITS["val"]) if split == "test" and "val" not in self.entry.sizes else names
        )

    @property
    def captioner(self) -> Captioner:
        """For sources of `diptych.data`: labels are numbers, captions may be missing."""
        return Captioner(
            keys=("txt", "caption", "captions", "sentences"),
            class_names=(),
            templates=(),
            needed=False,
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a reader gives: samples whose labels are the data's own."""

    layout: str
    """What the way in which they lie is called, for the result."""
    place: Path
    """For sentences about what is wrong with them."""
    source: Source
    labels: tuple[str, ...] = ()
    """What the data calls its classes, by number. Empty: the numbers are the dataset's own."""
    templates: tuple[str, ...] = ()
    """Those that lie beside the data."""
    frames: int = 1
    """Of each sample: `wanted.frames`, where the samples are clips."""
