"""From what a user asks for (`imagenet1k`, `vtab+`, `linear/cifar100`, `photos/`) to open
datasets."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from diptych import datasets
from diptych.config import DataConfig
from diptych.datasets import Dataset, EvaluationSet, open_own, open_set
from diptych.datasets.own import ClassNames, open_own_parts
from diptych.errors import ConfigError, DataError, UnknownNameError

TRAINED = ("linear", "fewshot")
"""Prefixes: classifiers that are trained on a dataset's vectors, and asked about its test split."""
_IMAGENET = "imagenet1k"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is done with a dataset."""

    name: str
    """As it was asked for: `cifar10`, `linear/cifar100`, a path."""
    data: EvaluationSet | str
    """A known dataset, or the path of data of the user's own."""
    kind: str = "direct"
    """`direct`: the dataset's own task; of data of the user's own also one of `own.METRICS`.
    `linear`, `fewshot`: classifiers trained on the vectors."""


Tasks = str | EvaluationSet | Task | Sequence[str | EvaluationSet | Task]
"""Names of datasets, groups and patterns, divided by commas or in a sequence; or the datasets."""


def parse_tasks(words: Tasks) -> tuple[Task, ...]:
    """The tasks that `words` name, without doubles. A word may be several, divided by commas; a
    group or a pattern stands for its datasets, behind `linear/` and `fewshot/` too.

    Raises UnknownNameError for a word that is neither a dataset, a group nor a pattern, and doesn't
    look like data.

    >>> from diptych.evaluation.tasks import parse_tasks
    >>> [task.name for task in parse_tasks("cifar*,linear/vtab/cifar10,photos/")]
    ['cifar10', 'cifar100', 'linear/cifar10', 'photos/']
    """
    found = dict[str, Task]()
    for word in [words] if isinstance(words, str | EvaluationSet | Task) else words:
        if isinstance(word, Task):
            found[word.name] = word
        elif isinstance(word, EvaluationSet):
            found[word.name] = Task(name=word.name, data=word)
        else:
            for part in filter(None, map(str.strip, word.split(","))):
                found |= {task.name: task for task in _meant(part)}
    if not found:
        raise ConfigError("say at least one task, such as --tasks imagenet1k,vtab+,linear/cifar100")
    return tuple(found.values())


def _meant(word: str) -> list[Task]:
    prefix, _, rest = word.partition("/")
    kind, place = (prefix, rest) if prefix in TRAINED and rest else ("direct", word)
    before = f"{kind}/" if kind != "direct" else ""
    if _is_own(place):
        return [Task(name=word, data=place, kind=kind)]
    return [
        Task(name=f"{before}{entry.name}", data=entry, kind=kind)
        for entry in datasets.select((place,))
    ]


def check_frames(frames: int, tasks: Sequence[Task], by: str) -> None:
    """Raises ConfigError for a number of frames of each clip that these tasks can't use."""
    if frames == 1:
        return
    if frames < 1:
        raise ConfigError(f"--frames {frames}: a clip is seen by one frame or more")
    known = (task.data for task in tasks if isinstance(task.data, EvaluationSet))
    if all(data.kind != "video" for data in known):
        clips = ", ".join(datasets.GROUPS["eva-video4"])
        raise ConfigError(f"--frames would be ignored: it is for sets of clips, such as {clips}")
    if by != "vectors":
        raise ConfigError(f"--by {by} compares the patches of one picture a clip, not --frames")


def open_splits(
    task: Task,
    *,
    data_root: str | os.PathLike[str] = ".",
    profile: str = "diptych",
    sizes: Literal["exact", "warn"] = "exact",
    class_names: ClassNames | Mapping[str, ClassNames] = (),
    templates: str | Sequence[str] = (),
    settings: DataConfig | None = None,
    max_bad_share: float | None = None,
    limit: int = 0,
    frames: int = 1,
) -> dict[str, Dataset]:
    """The task's data by what it is for: `test`, and `train` and `val` where there is training.

    `data_root`, `profile`, `sizes` and `frames` are for known datasets (`datasets.open_set`);
    `class_names` (a mapping: of each task), `templates` and `settings`, whose path is the task's,
    for data of one's own (`datasets.open_own`). Raises DataError if the data isn't there.

    >>> from diptych.evaluation.tasks import open_splits, parse_tasks
    >>> [task] = parse_tasks("synthetic:16")
    >>> list(open_splits(task))
    ['test']
    """
    if isinstance(task.data, EvaluationSet):
        opening = partial(
            open_set, data_root=data_root, profile=profile, sizes=sizes, frames=frames
        )
        found = _open_known(task, task.data, opening)
    else:
        own = replace(settings or DataConfig(), path=task.data)
        names = _names_of(task, class_names)
        found = _open_own(task.kind, own, names, templates, limit)
    if max_bad_share is None:
        return found
    return {use: replace(each, max_bad_share=max_bad_share) for use, each in found.items()}


def _open_own(
    kind: str, own: DataConfig, names: ClassNames, templates: str | Sequence[str], limit: int
) -> dict[str, Dataset]:
    if kind in TRAINED:
        return open_own_parts(own, class_names=names, limit=limit)
    wanted = "" if kind == "direct" else kind
    return {"test": open_own(own, wanted, class_names=names, templates=templates, limit=limit)}


def _open_known(
    task: Task, data: EvaluationSet, opening: Callable[..., Dataset]
) -> dict[str, Dataset]:
    test = opening(data, split="test")
    if task.kind == "direct":
        return {"test": test}
    learned = _trained_on(data, test)
    splits = {"test": test, "train": opening(learned, split="train")}
    if "val" in learned.sizes:
        splits["val"] = opening(learned, split="val")
    return splits


def _names_of(task: Task, class_names: ClassNames | Mapping[str, ClassNames]) -> ClassNames:
    if isinstance(class_names, Mapping):
        return class_names.get(task.name, class_names.get(str(task.data), ()))
    return class_names


def _trained_on(data: EvaluationSet, test: Dataset) -> EvaluationSet:
    """Whose training split a classifier sees: ImageNet's, for the datasets that shift its
    pictures."""
    if data.name not in datasets.GROUPS["imagenet-shifts"]:
        return data
    whole = datasets.get(_IMAGENET)
    if len(test.class_names) != whole.classes and not test.class_indices:
        raise DataError(
            f"{data.name} has classes of its own, which a classifier of ImageNet's doesn't know"
        )
    return whole


def _is_own(place: str) -> bool:
    """Whether it is data of the user's: no dataset, group or pattern answers to it, and it looks
    like a path."""
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
