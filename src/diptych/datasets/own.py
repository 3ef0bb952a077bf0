"""Data of one's own as an evaluation dataset: a folder of class folders, a table or shards."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from diptych.config import DataConfig
from diptych.data import Source, class_names_of, open_source
from diptych.datasets.dataset import Dataset
from diptych.datasets.templates import templates as templates_of
from diptych.errors import DataError, UnknownNameError

METRICS = {"zero-shot": "top1", "retrieval": "mean_recall"}
"""What can be measured on data of one's own, and the figure that it is known by."""


def open_own(
    data: DataConfig | str | os.PathLike[str],
    kind: str = "",
    *,
    class_names: str | os.PathLike[str] | Sequence[str] = (),
    templates: str | Sequence[str] = (),
    split: str = "",
) -> Dataset:
    """The dataset in a folder of class folders, a table or shards.

    Without a `kind` it is zero-shot where samples have labels and classes have names, else
    retrieval. `class_names` is a sequence, or a file with one a line. With a `split`, the folder of
    that name in `data`, where there is one. Raises DataError for data that can't be used,
    UnknownNameError for a kind.

    >>> from diptych.datasets import open_own
    >>> dataset = open_own("synthetic:16")
    >>> dataset.kind, dataset.metric, len(dataset.class_names)
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
    return Dataset(
        name=name,
        kind=cast(Literal["zero-shot", "retrieval"], kind),
        source=source,
        metric=METRICS[kind],
        class_names=names,
        templates=config.templates if names else (),
        split=split,
        max_bad_share=config.max_bad_share,
        path=config.path,
    )


def _labelled(source: Source) -> bool:
    """Whether the first good sample has a label."""
    for index in range(len(source)):
        try:
            return source[index].label is not None
        except (DataError, OSError):
            continue
    return False
