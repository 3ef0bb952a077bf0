"""From what a user asks for (`imagenet1k`, `vtab+`, `linear/cifar100`, `photos/`) to open sets."""

from collections.abc import Sequence
from dataclasses import dataclass

from diptych.errors import ConfigError
from diptych.evaluation.measure import Task
from diptych.evaluation.subject import open_own

TRAINED = ("linear", "fewshot")
"""Prefixes: classifiers that are trained on a set's vectors, and asked about its test split."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Where sets lie and how they are asked, for all tasks of a suite."""

    data_root: str = "."
    """Folder of the sets."""
    profile: str = ""
    """Whose conventions; empty: our own."""
    class_names: str = ""
    """Own sets: a file of names, one a line; empty: the data's own."""
    templates: Sequence[str] = ()
    """Own sets: captions of a class; empty: the data's own."""

    def open(self, name: str) -> Task:
        """The task's data. Raises DataError if it isn't there, UnknownNameError if no set is called so."""
        kind, _, rest = name.partition("/")
        if kind not in TRAINED:
            return Task(name=name, subjects={"test": self._own(name, "test")})
        return Task(name=name, kind=kind, subjects={split: self._own(rest, split) for split in ("test", "train")})

    def _own(self, path: str, split: str):
        return open_own(path, class_names=self.class_names or (), templates=self.templates, split=split)


def expand(words: Sequence[str]) -> tuple[str, ...]:
    """The tasks that `words` name, without doubles: each word may be several, divided by commas.

    >>> from diptych.evaluation.tasks import expand
    >>> expand(["photos/,linear/photos/", "photos/"])
    ('photos/', 'linear/photos/')
    """
    names = [name.strip() for word in words for name in word.split(",") if name.strip()]
    if not names:
        raise ConfigError("say at least one task, such as --tasks imagenet1k,vtab+,linear/cifar100")
    return tuple(dict.fromkeys(names))
