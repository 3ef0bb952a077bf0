"""A set of one's own: a folder per class, a table, or shards."""

import os
from collections.abc import Sequence
from pathlib import Path

from diptych.config import DataConfig
from diptych.data import Source, open_source
from diptych.errors import DataError
from diptych.evaluation.prompts import templates as templates_of
from diptych.evaluation.sets.entry import EvaluationSet, Task
from diptych.evaluation.sets.open import OpenSet, files_sha256
from diptych.evaluation.sets.words import fingerprint


def own(
    path: str | os.PathLike[str],
    *,
    class_names: str | os.PathLike[str] | Sequence[str] = (),
    templates: str | Sequence[str] = "simple",
    task: Task | None = None,
    cache: str = "",
) -> OpenSet:
    """Your own set: a folder with a sub-folder per class, a table or shards with labels or captions.

    Without `task`, a set with labels is classified and one with captions alone is searched. `class_names` is a
    sequence, or a file with one a line; empty: the folders' own. `templates` is a set's name or templates. Raises
    DataError for a source that can't be read, has neither labels nor captions, or whose classes have no names.

    >>> import tempfile; from pathlib import Path
    >>> from diptych.data import write_shards; from diptych.batch import Sample
    >>> from diptych.evaluation import sets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_shards(folder, [Sample(key="", image=b"\\x89PNG...", label=n) for n in (0, 1)])
    ...     opened = sets.own(folder, class_names=("cat", "dog"), cache=folder)
    >>> opened.entry.task, opened.class_names, opened.source[1].label
    ('zero-shot', ('cat', 'dog'), 1)
    """
    if isinstance(class_names, str | os.PathLike):
        names, file = (), os.fspath(class_names)
    else:
        names, file = tuple(class_names), ""
    place, words = os.fspath(path), templates_of(templates)
    source = open_source(DataConfig(path=place, class_names=file, templates=words, cache=cache), captions=False)
    task = task or _task(place, source)
    names = () if task == "retrieval" else names or source.class_names
    if task != "retrieval" and not names:
        raise DataError(f"{place} has labels but no names of classes; give a file of names, one a line, as class_names")
    words = words if names else ()
    entry = EvaluationSet(
        name=Path(place).stem,
        title=place,
        task=task,
        classes=len(names),
        sizes={"test": len(source)},
        metric="mean_recall" if task == "retrieval" else "map" if task == "multilabel" else "top1",
    )
    return OpenSet(
        entry=entry,
        profile="own",
        split="test",
        source=source,
        class_names=names,
        templates=words,
        metric=entry.metric,
        layout="own",
        prompts_sha256=fingerprint(names, words),
        sha256=files_sha256(source, Path(place)),
        remarks=tuple(f"{bad.file}: {bad.reason}" for bad in source.damage),
    )


def _task(place: str, source: Source) -> Task:
    """What the first sample that can be read is good for."""
    for index in range(len(source)):
        try:
            sample = source[index]
        except (DataError, OSError):
            continue
        if sample.labels:
            return "multilabel"
        if sample.label is not None:
            return "zero-shot"
        if sample.captions:
            return "retrieval"
        raise DataError(f"{place} has neither labels nor captions, so that there is nothing to score")
    raise DataError(f"{place} holds no sample that can be read")
