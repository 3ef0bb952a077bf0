"""Conventions: one set is scored differently by those who publish numbers for it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from diptych.datasets.entry import EvaluationSet, Metric
from diptych.errors import UnknownNameError

Resize = Literal["crop", "squash"]
"""`crop`: the shorter side to the model's size, then the middle. `squash`: both sides to it."""


@dataclass(frozen=True, kw_only=True)
class ProfileChange:
    """Where a convention differs from the set's entry; what is empty or 0 doesn't."""

    split: str = ""
    """What this convention tests on: `all` is every split together."""
    size: int = 0
    metric: Metric | Literal[""] = ""
    prompts: str = ""
    resize: tuple[Resize, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One convention: everything that it fixes beside the sets' entries."""

    name: str
    source: str
    publisher: str
    """Whose templates are used, where a set has several."""
    resize: tuple[Resize, ...] = ()
    """Of pictures. Empty: as the model was trained. Two: each is scored, and the better number of a
    set counts."""
    retrieval_resize: tuple[Resize, ...] = ()
    mirror_words: bool = False
    """Class names and templates are those that lie beside a mirror's shards."""
    ignore_difficult: bool = False
    """VOC's difficult objects count neither for nor against a class; else they count like all
    others."""
    changes: Mapping[str, ProfileChange] = field(default_factory=dict)

    def of(self, entry: EvaluationSet) -> ProfileChange:
        """The convention for one set, complete: what `changes` leaves open is filled in from the
        entry.

        >>> from diptych import datasets
        >>> change = datasets.profile("eva-clip-18b").of(datasets.get("eurosat"))
        >>> change.split, change.size, change.metric, change.resize
        ('all', 27000, 'top1', ('crop', 'squash'))
        """
        change = self.changes.get(entry.name, ProfileChange())
        split = change.split or "test"
        resize = self.retrieval_resize if entry.kind == "retrieval" else self.resize
        return ProfileChange(
            split=split,
            size=change.size or entry.sizes.get(split, 0),
            metric=change.metric or entry.metric,
            prompts=change.prompts or os.fspath(entry.prompts) or entry.name,
            resize=change.resize or resize,
            note=change.note or entry.note,
        )


_PER_CLASS: dict[str, ProfileChange] = {
    name: ProfileChange(metric="mean_per_class") for name in ("fgvc-aircraft", "flowers102", "pets")
}

_PROFILES = (
    Profile(name="diptych", source="the entries of this package", publisher=""),
    Profile(
        name="clip-benchmark",
        source="LAION-AI/CLIP_benchmark 1.6.2",
        publisher="clip-benchmark",
        mirror_words=True,
    ),
    Profile(
        name="eva-clip-18b",
        source="Sun et al. 2024 (arXiv:2402.04252), tables 11 and 14",
        publisher="clip-benchmark",
        resize=("crop", "squash"),
        retrieval_resize=("squash",),
        changes={
            "birdsnap": ProfileChange(size=2_195),
            "caltech101": ProfileChange(split="all", size=9_144),
            "eurosat": ProfileChange(split="all", size=27_000),
            "fer2013": ProfileChange(size=3_574),
            "objectnet": ProfileChange(
                note="table 11 prints 50,273, the whole set; classes and scores are those of 18,574"
            ),
            "resisc45": ProfileChange(split="all", size=31_500),
            "ucf101": ProfileChange(split="all", size=11_213, note="the three test lists together"),
            "voc2007": ProfileChange(
                note="table 11 prints 4,952 pictures; scores are those of the 14,976 boxes"
            ),
        },
    ),
    Profile(
        name="openai",
        source="Radford et al. 2021 (arXiv:2103.00020), table 9",
        publisher="openai",
        resize=("crop",),
        retrieval_resize=("crop",),
        ignore_difficult=True,
        changes=_PER_CLASS
        | {
            "birdsnap": ProfileChange(size=2_149),
            "caltech101": ProfileChange(size=6_085, metric="mean_per_class"),
            "clevr-count": ProfileChange(
                size=500, prompts="clevr-count-digits", note="these 500 were never published"
            ),
            "eurosat": ProfileChange(size=5_000),
            "fer2013": ProfileChange(size=3_574),
            "kinetics700": ProfileChange(size=31_669),
            "resisc45": ProfileChange(size=25_200),
            "sun397": ProfileChange(size=19_850, note="the first official test partition"),
            "ucf101": ProfileChange(size=1_794),
            "voc2007-multilabel": ProfileChange(metric="map11"),
        },
    ),
    Profile(
        name="declip",
        source="Li et al. 2022 (arXiv:2110.05208): linear probes of 11 sets at CLIP's splits, "
        "zero-shot ImageNet",
        publisher="openai",
        resize=("crop",),
        changes=_PER_CLASS
        | {
            "caltech101": ProfileChange(size=6_085, metric="mean_per_class"),
            "sun397": ProfileChange(size=19_850, note="the first official test partition"),
        },
    ),
    Profile(
        name="vtab",
        source="Zhai et al. 2019 (arXiv:1910.04867)",
        publisher="clip-benchmark",
        changes={
            "sun397": ProfileChange(size=21_750, note="the test split of TensorFlow Datasets")
        },
    ),
)


def profiles() -> tuple[str, ...]:
    """The names of all profiles.

    >>> from diptych import datasets
    >>> datasets.profiles()
    ('diptych', 'clip-benchmark', 'eva-clip-18b', 'openai', 'declip', 'vtab')
    """
    return tuple(each.name for each in _PROFILES)


def profile(name: str = "diptych") -> Profile:
    """The profile of that name. Raises UnknownNameError with near misses.

    >>> from diptych import datasets
    >>> datasets.profile("openai").of(datasets.get("pets")).metric
    'mean_per_class'
    """
    for each in _PROFILES:
        if each.name == name.lower().replace("_", "-"):
            return each
    raise UnknownNameError("profile", name, profiles())
