"""Data of one's own as an evaluation dataset: a folder of class folders, a table or shards."""

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from diptych.batch import Sample
from diptych.config import DataConfig
from diptych.data import Source, open_source
from diptych.data.folders import ClassFolders, class_folders
from diptych.data.joined import Chosen
from diptych.datasets.dataset import Dataset
from diptych.datasets.layouts.base import read_lines
from diptych.datasets.layouts.mirror import (
    CLASS_NAMES,
    KIND,
    TEMPLATES,
    numbered_shards,
    read_templates,
)
from diptych.datasets.open import Aligned
from diptych.datasets.own_names import (
    align_given,
    join,
    places,
    read_names,
    remarks_on,
    some,
    spelt,
)
from diptych.datasets.parts import beside, parts_of, row_parts, tested
from diptych.datasets.same_pictures import Captioned, check_apart
from diptych.datasets.templates import class_prompts
from diptych.datasets.templates import templates as templates_of
from diptych.errors import DataError, DataWarning, UnknownNameError

METRICS = {"zero-shot": "top1", "retrieval": "mean_recall"}
"""What can be measured on data of one's own, and the figure that it is known by."""
ClassNames = str | os.PathLike[str] | Sequence[str]
_TRIED = 8


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One split, as it was opened."""

    source: Source
    labels: tuple[str, ...]
    """What the data calls its class numbers: class folders, or lines of a file; empty: nothing."""
    spoken: tuple[str, ...]
    """What captions call them."""
    remarks: tuple[str, ...]


def open_own(
    data: DataConfig | str | os.PathLike[str],
    kind: str = "",
    *,
    class_names: ClassNames = (),
    templates: str | Sequence[str] = (),
    limit: int = 0,
) -> Dataset:
    """The dataset in a folder of class folders, a table or shards; of data with parts for training
    and test the test part, or the validation part where there is no other (`parts.parts_of`).

    Without a `kind` it is zero-shot where samples have labels and classes have names, else
    retrieval. `class_names` is a sequence, or a file with one a line; empty: those of a
    `classnames.txt` beside the data, or of the class folders. For retrieval, samples with the same
    picture are one picture with several captions, and `limit` samples are looked at (0: all).

    Raises DataError for data that can't be used, UnknownNameError for a kind.

    >>> from diptych.datasets import open_own
    >>> dataset = open_own("synthetic:16")
    >>> dataset.kind, dataset.metric, len(dataset.class_names)
    ('zero-shot', 'top1', 24)
    """
    if kind and kind not in METRICS:
        raise UnknownNameError("task", kind, METRICS)
    config = _config(data)
    parts = parts_of(config.path)
    split = tested(config.path, parts)
    where = replace(config, path=parts.get(split, config.path))
    given = _given(class_names or config.class_names, where.path)
    part = _open(where, given)
    if rows := row_parts(part.source):
        split = tested(config.path, rows)
        part = replace(part, source=Chosen(part.source, rows[split]))
    kind = kind or _kind_beside(where.path) or _kind(part, where.path)
    _check(part.source, kind, where.path)
    if kind == "retrieval":
        source = Captioned(part.source, limit)
        found = _dataset(config, where.path, split, kind, source)
        unused = ("class names and templates aren't used: retrieval takes the captions",)
        return replace(
            found,
            remarks=(*part.remarks, *(unused if class_names or templates else ())),
            reading=(*_reading(where), *source.reading),
        )
    [classes] = _join({split: part}, given, where.path).values()
    if not classes.class_names:
        raise DataError(
            f"the classes of {where.path} are numbers without names; write the names into a text "
            "file, one a line, in the order of the numbers, and give it by --class-names (in "
            "Python class_names), or lay it beside the data as classnames.txt"
        )
    remarks = (*classes.remarks, *remarks_on(classes.class_names, asked=True))
    prompts = _class_prompts(templates, classes.class_names)
    found = _dataset(config, where.path, split, kind, classes.source)
    return replace(
        found,
        class_names=classes.class_names,
        templates=() if prompts else _templates(templates, config, where.path),
        class_prompts=prompts,
        remarks=remarks,
        reading=_reading(where, classes.source),
    )


def open_own_parts(
    data: DataConfig | str | os.PathLike[str], *, class_names: ClassNames = (), limit: int = 0
) -> dict[str, Dataset]:
    """The parts that a classifier is trained on, has its penalty chosen on and is asked about:
    `train`, `val` where there are both it and `test`, and `test`. Classes are joined by name.

    Raises DataError for data without a training and a test part, and where their pictures are the
    same.
    """
    config = _config(data)
    names = class_names or config.class_names
    paths = parts_of(config.path)
    parts = {} if paths else _open_rows(config, names)
    if "train" not in (splits := [*paths, *parts]) or len(splits) < 2:
        raise DataError(
            f"linear/ and fewshot/ need a training and a test part: {config.path}/train and "
            f"{config.path}/test, each as {config.path} is now, shards or tables train-… and "
            "test-… in one folder, or a column split in a table"
        )
    asked = tested(config.path, splits)
    for split, path in paths.items():
        parts[split] = _open(replace(config, path=path), _given(names, path))
    opened = {"test" if split == asked else split: part for split, part in parts.items()}
    paths = {"test" if split == asked else split: path for split, path in paths.items()}
    for use, part in opened.items():
        _check(part.source, "zero-shot", paths.get(use, config.path))
    given = _given(names, paths.get("test", config.path))
    joined = _join(opened, given, config.path)
    learned = [part.source for use, part in joined.items() if use != "test"]
    apart = check_apart(joined["test"].source, learned, config.path, limit)
    found = dict[str, Dataset]()
    for use, classes in joined.items():
        split, path = asked if use == "test" else use, paths.get(use, config.path)
        dataset = _dataset(config, path, split, "zero-shot", classes.source)
        odd = remarks_on(classes.class_names, asked=False)
        found[use] = replace(
            dataset,
            class_names=classes.class_names,
            remarks=(*classes.remarks, *odd, *apart),
            reading=_reading(config, classes.source),
        )
    return found


def _config(data: DataConfig | str | os.PathLike[str]) -> DataConfig:
    return data if isinstance(data, DataConfig) else DataConfig(path=os.fspath(data))


def _reading(config: DataConfig, source: Aligned | None = None) -> tuple[object, ...]:
    """What samples say depends on it, beside the files, their rows and the class names."""
    keys = (config.caption_key,) if config.caption_key != DataConfig().caption_key else ()
    return (*keys, *(source.class_places if source else ()))


def _given(class_names: ClassNames, path: str) -> tuple[str, ...]:
    """The names that were given, or that lie beside the data; empty: none."""
    if class_names and isinstance(class_names, str | os.PathLike):
        return read_names(Path(class_names))
    if class_names and not isinstance(class_names, os.PathLike):
        return tuple(class_names)
    file = beside(path, CLASS_NAMES)
    return read_names(file) if file else ()


def _open(config: DataConfig, given: Sequence[str]) -> _Part:
    """The part, with labels but without captions that are made of them."""
    folder = Path(config.path).expanduser()
    if (folder / "nshards.txt").exists():
        numbered_shards(folder)
    plain = replace(config, templates=(), class_names="")
    # What may be meant otherwise belongs to the result, which says it again whenever it is read.
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", DataWarning)
        source = open_source(plain, captions=False, class_names=given, flags="--")
    remarks = tuple(str(each.message) for each in said)
    labels = source.class_names
    if isinstance(source, ClassFolders):
        labels = tuple(path.name for path in class_folders(source.root))
    return _Part(source=source, labels=labels, spoken=source.class_names, remarks=remarks)


def _open_rows(config: DataConfig, class_names: ClassNames) -> dict[str, _Part]:
    """Split -> its rows of a table with a column `split`; empty for other data."""
    part = _open(config, _given(class_names, config.path))
    rows = row_parts(part.source)
    return {split: replace(part, source=Chosen(part.source, rows[split])) for split in rows}


@dataclass(frozen=True, kw_only=True)
class _Classes:
    """A part's samples under the class numbers that all parts share."""

    source: Aligned
    class_names: tuple[str, ...]
    remarks: tuple[str, ...]


def _join(parts: Mapping[str, _Part], given: Sequence[str], place: str) -> dict[str, _Classes]:
    """The parts under one list of classes: those of all of them, or `given`."""
    if any(not part.labels for part in parts.values()):
        unnamed = [use for use, part in parts.items() if not part.labels]
        if len(unnamed) < len(parts):
            raise DataError(
                f"{place} names its classes, but not those of {' and '.join(unnamed)}: "
                f"{CLASS_NAMES} is missing there"
            )
    united = join({use: part.labels for use, part in parts.items()})
    spoken = dict[str, str]()
    for part in parts.values():
        spoken |= dict(zip(map(spelt, part.labels), part.spoken))
    names = tuple(spoken[spelt(label)] for label in united)
    moved, remarks = tuple(range(len(united))), ()
    if given and all(isinstance(part.source, ClassFolders) for part in parts.values()):
        moved, remarks = align_given(united, names, given, place)
        names = tuple(given)
    return {
        use: _Classes(
            source=Aligned(
                part.source,
                [moved[each] for each in places(part.labels, united)],
                names,
                "zero-shot",
            ),
            class_names=names,
            remarks=(*part.remarks, *remarks, *_lacking(use, part.labels, united)),
        )
        for use, part in parts.items()
    }


def _lacking(use: str, labels: Sequence[str], united: Sequence[str]) -> tuple[str, ...]:
    """A remark on classes that other parts have and this one hasn't."""
    own = set(map(spelt, labels))
    missing = [label for label in united if spelt(label) not in own]
    return (f"{use} has no class {some(missing)}",) if missing else ()


def _dataset(config: DataConfig, path: str, split: str, kind: str, source: Source) -> Dataset:
    return Dataset(
        name=config.path,
        kind=cast(Literal["zero-shot", "retrieval"], kind),
        source=source,
        metric=METRICS[kind],
        split=split,
        max_bad_share=config.max_bad_share,
        path=path,
        shown=config.image_key if config.image_key != DataConfig().image_key else "",
    )


def _templates(templates: str | Sequence[str], config: DataConfig, path: str) -> tuple[str, ...]:
    """The templates that were given, or those that lie beside the data, or the usual one."""
    if templates:
        return templates_of(templates)
    file = beside(path, TEMPLATES)
    given = config.templates != DataConfig().templates
    return read_templates(file) if file and not given else config.templates


def _class_prompts(
    templates: str | Sequence[str], names: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Those of a JSON file, where `templates` is one that has some for each class."""
    words = [templates] if isinstance(templates, str) else templates
    if len(words) != 1 or not words[0].endswith(".json"):
        return ()
    return class_prompts(words[0], names)


def _kind_beside(path: str) -> str:
    """What CLIP_benchmark's file beside the data says it is for."""
    file = beside(path, KIND)
    is_retrieval = file and any("retrieval" in line for line in read_lines(file))
    return "retrieval" if is_retrieval else ""


def _kind(part: _Part, path: str) -> str:
    """What the first good samples are good for: zero-shot where they have labels and classes have
    names, else retrieval. Raises DataError for samples that have neither labels nor captions."""
    samples = _first_samples(part.source)
    labelled = any(sample.label is not None for sample in samples)
    captioned = any(sample.captions for sample in samples)
    if labelled and (part.labels or not captioned):
        return "zero-shot"
    if captioned:
        return "retrieval"
    raise DataError(
        f"the samples of {path} have neither class labels nor captions; a column or member that "
        "holds captions is named by --caption-key (in Python caption_key)"
    )


def _check(source: Source, kind: str, path: str) -> None:
    """Raises DataError where none of the first good samples says what the kind needs."""
    samples = _first_samples(source)
    labelled = any(sample.label is not None for sample in samples)
    captioned = any(sample.captions for sample in samples)
    if kind == "zero-shot" and not labelled:
        other = "; for captions there is `diptych evaluate --task retrieval`" if captioned else ""
        raise DataError(
            f"the samples of {path} have no class labels; they lie in class folders, in a column "
            f"label, or in .cls beside the picture in shards{other}"
        )
    if kind == "retrieval" and not captioned:
        other = (
            "; for class labels there is `diptych evaluate --task zero-shot`" if labelled else ""
        )
        raise DataError(
            f"the samples of {path} have no captions; the column or member that holds them is "
            f"named by --caption-key{other}"
        )


def _first_samples(source: Source) -> list[Sample]:
    found = list[Sample]()
    for index in range(len(source)):
        with contextlib.suppress(DataError, OSError):
            found.append(source[index])
        if len(found) == _TRIED:
            break
    return found
