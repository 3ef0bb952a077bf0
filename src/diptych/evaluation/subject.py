"""What is measured on: a split of a set, open."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from diptych.config import DataConfig
from diptych.data import Source, class_names_of, open_source
from diptych.errors import DataError, UnknownNameError
from diptych.evaluation.prompts import templates as templates_of
from diptych.evaluation.sets.words import fingerprint

Kind = Literal["zero-shot", "multilabel", "retrieval", "choice", "video"]
FIELDS: dict[Kind, tuple[str, ...]] = {
    "zero-shot": ("label",),
    "multilabel": ("labels",),
    "retrieval": ("captions",),
    "choice": ("captions", "label"),
    "video": ("label",),
}
"""What of a sample each kind of task reads."""
METRICS: dict[Kind, str] = {"zero-shot": "top1", "retrieval": "mean_recall"}
"""The figure that an own set is known by."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A set and how it is asked, whoever described it: an entry of `evaluation.sets`, or the
    user."""

    name: str
    kind: Kind
    source: Source
    metric: str
    """The figure that the set is known by."""
    class_names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    split: str = "test"
    profile: str = "own"
    """Whose conventions: prompts, metric, layout."""
    resizes: tuple[str, ...] = ()
    """The ways in which the profile shows pictures; empty: as the model was trained."""
    class_indices: tuple[int, ...] = ()
    """The classes among those of the set that a classifier is trained on, for a part of ImageNet;
    empty: the same."""
    max_bad_share: float = 0.0
    """Of samples that can't be used; more of them is an error."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else a result should say of the data."""

    @property
    def prompts_sha256(self) -> str:
        """A digest of names and templates; empty where there are none."""
        return fingerprint(self.class_names, self.templates) if self.class_names else ""


def open_own(
    data: DataConfig | str | os.PathLike[str],
    kind: Kind | str = "",
    *,
    class_names: str | os.PathLike[str] | Sequence[str] = (),
    templates: str | Sequence[str] = (),
    split: str = "",
) -> Subject:
    """A set of one's own: a folder of class folders, a table or shards.

    Without a `kind` it is zero-shot where samples have labels and classes have names, else
    retrieval. With a `split`, the folder of that name in `data`, where there is one. Raises
    DataError for data that can't be used, UnknownNameError for a kind.

    >>> from diptych.evaluation.subject import open_own
    >>> subject = open_own("synthetic:16")
    >>> subject.kind, subject.metric, len(subject.class_names)
    ('zero-shot', 'top1', 24)
    """
    config = data if isinstance(data, DataConfig) else DataConfig(path=os.fspath(data))
    name = config.path
    if split and (Path(config.path) / split).is_dir():
        config = replace(config, path=str(Path(config.path) / split))
    if templates:
        config = replace(config, templates=templates_of(templates))
    if isinstance(class_names, str | os.PathLike):
        config, class_names = replace(config, class_names=os.fspath(class_names)), ()
    if kind and kind not in METRICS:
        raise UnknownNameError("task", kind, METRICS)
    source = open_source(config, captions=kind == "retrieval")
    named = bool(class_names or source.class_names)
    kind = kind or ("zero-shot" if named and _labelled(source) else "retrieval")
    # Before the long work: what is missing is said at once.
    names = (tuple(class_names) or class_names_of(source)) if kind == "zero-shot" else ()
    return Subject(
        name=name,
        kind=next(known for known in get_args(Kind) if known == kind),
        source=source,
        metric=METRICS[kind],
        class_names=names,
        templates=config.templates if names else (),
        split=split,
        max_bad_share=config.max_bad_share,
        about={"path": config.path},
    )


def _labelled(source: Source) -> bool:
    for index in range(len(source)):
        try:
            return source[index].label is not None
        except (DataError, OSError):
            continue
    return False
