"""From what a user asks for (`imagenet1k`, `vtab+`, `linear/cifar100`, `photos/`) to open sets."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diptych import datasets
from diptych.datasets import Dataset, open_own
from diptych.errors import ConfigError, DataError, UnknownNameError
from diptych.evaluation.measure import Task

TRAINED = ("linear", "fewshot")
"""Prefixes: classifiers that are trained on a set's vectors, and asked about its test split."""
_IMAGENET = "imagenet1k"


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Where sets lie and how they are asked, for all tasks of a suite."""

    data_root: str = "."
    """Folder of the sets."""
    profile: str = "diptych"
    """Whose conventions."""
    class_names: str = ""
    """Own sets: a file of names, one a line; empty: the data's own."""
    templates: Sequence[str] = ()
    """Own sets: captions of a class; empty: the data's own."""

    sizes: Literal["exact", "warn"] = "exact"
    """Whether a set with another number of samples than the published one is an error, or a remark
    in the result."""

    def open(self, name: str) -> Task:
        """The task's data. Raises DataError if it isn't there, UnknownNameError if no set is called
        so."""
        kind, place = _split(name)
        find = self._own if _is_own(place) else self._known
        test = find(place, "test")
        if not kind:
            return Task(name=name, subjects={"test": test})
        trained = place if _is_own(place) else _trained_on(place, test)
        subjects = {"test": test, "train": find(trained, "train")}
        if not _is_own(place) and "val" in datasets.get(trained).sizes:
            subjects["val"] = find(trained, "val")
        return Task(name=name, kind=kind, subjects=subjects)

    def _known(self, place: str, split: str) -> Dataset:
        return datasets.open_set(
            place, self.data_root, profile=self.profile, split=split, sizes=self.sizes
        )

    def _own(self, place: str, split: str) -> Dataset:
        return open_own(
            place, class_names=self.class_names or (), templates=self.templates, split=split
        )


def expand(words: Sequence[str]) -> tuple[str, ...]:
    """The tasks that `words` name, without doubles. A word may be several, divided by commas; a
    group or a pattern stands for its sets, behind `linear/` and `fewshot/` too.

    Raises UnknownNameError for a word that is neither a set, a group nor a pattern, and doesn't
    look like data.

    >>> from diptych.evaluation.tasks import expand
    >>> expand(["cifar*,linear/vtab/cifar10", "photos/"])
    ('cifar10', 'cifar100', 'linear/cifar10', 'photos/')
    """
    found = dict[str, None]()
    for word in filter(None, map(str.strip, ",".join(words).split(","))):
        kind, place = _split(word)
        names = [place] if _is_own(place) else [entry.name for entry in datasets.select((place,))]
        found |= dict.fromkeys(f"{kind}/{name}" if kind else name for name in names)
    if not found:
        raise ConfigError("say at least one task, such as --tasks imagenet1k,vtab+,linear/cifar100")
    return tuple(found)


def _split(name: str) -> tuple[str, str]:
    """`linear/cifar100` as ("linear", "cifar100"); a set alone as ("", "cifar100")."""
    kind, _, place = name.partition("/")
    return (kind, place) if kind in TRAINED and place else ("", name)


def _trained_on(place: str, test: Dataset) -> str:
    """The set whose training split a classifier sees: ImageNet, for the sets that shift its
    pictures."""
    name = datasets.get(place).name
    if name not in datasets.GROUPS["imagenet-shifts"]:
        return name
    if len(test.class_names) != datasets.get(_IMAGENET).classes and not test.class_indices:
        raise DataError(
            f"{name} has classes of its own, which a classifier of ImageNet's doesn't know"
        )
    return _IMAGENET


def _is_own(place: str) -> bool:
    """Whether it is data of the user's: no set, group or pattern answers to it, and it looks like a
    path."""
    try:
        datasets.select((place,))
    except UnknownNameError:
        shaped = (
            place.startswith((".", "/", "~"))
            or place.endswith("/")
            or ":" in place
            or bool(Path(place).suffix)
        )
        return shaped or os.path.exists(place)
    return False
