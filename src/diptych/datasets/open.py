"""From an evaluation dataset and a folder to samples with the dataset's own class numbers, names
and templates."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal

from diptych.batch import Sample
from diptych.config import DataConfig
from diptych.data import BadSample, Source
from diptych.data.spool import cache_folder
from diptych.data.wordnet import spoken_names
from diptych.datasets.class_names import Prompts, align, prompts_of
from diptych.datasets.dataset import Dataset
from diptych.datasets.entry import EvaluationSet, Found, Kind, Wanted
from diptych.datasets.layouts import readers
from diptych.datasets.lookup import get
from diptych.datasets.profiles import Profile, profile
from diptych.errors import DataError


def open_set(
    entry: EvaluationSet | str,
    data_root: str | os.PathLike[str],
    *,
    profile: Profile | str = "diptych",
    split: str = "test",
    sizes: Literal["exact", "warn"] = "exact",
    class_names: Literal["set", "data"] = "set",
    frames: int = 1,
    cache: str = "",
) -> Dataset:
    """The set as it lies below `data_root`, in whichever layout is found there
    (docs/evaluation-sets.md).

    `split="test"` is what the profile tests on. With `sizes="warn"` another number of samples than
    the published one is a remark, and classes may be missing; else it is an error.
    `class_names="data"` takes the names that the data gives its classes instead of the set's.
    `frames` of each clip are its pictures; of data that isn't clips there is one.
    `cache` holds indexes of shards; empty: ~/.cache/diptych.

    Raises UnknownNameError, and DataError that says what was expected, what was found, and how to
    get the set.

    >>> import tempfile
    >>> from diptych import datasets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     datasets.open_set("cifar10", folder)
    Traceback (most recent call last):
    diptych.errors.DataError: CIFAR-10 (split test) isn't in ...
    """
    found_entry = get(entry) if isinstance(entry, str) else entry
    convention = _profile(profile)
    change = convention.of(found_entry)
    asked = change.split if split == "test" else split
    size = change.size if split == "test" else found_entry.sizes.get(split, 0)
    wanted = Wanted(
        entry=found_entry,
        split=asked,
        root=Path(data_root).expanduser(),
        cache=cache_folder(DataConfig(cache=cache)),
        ignore_difficult=convention.ignore_difficult,
        frames=frames if found_entry.kind == "video" else 1,
    )
    found = _find(wanted, size)
    remarks = _check_size(wanted, found, size, sizes)
    known = Prompts(classes={}, templates={}, source="", licence="")
    if found_entry.classes:
        known = prompts_of(found_entry, change.prompts)
    names, places = _names(wanted, found, known, class_names)
    if found.labels and len(found.labels) != found_entry.classes:
        message = f"{len(found.labels)} of {found_entry.classes} classes"
        if sizes == "exact":
            raise DataError(
                f"{found_entry.title} in {found.place} has {message}; "
                "fewer can be allowed (--sizes warn)"
            )
        remarks.append(message)
    templates = known.templates_of(convention.publisher)
    if convention.mirror_words and found.templates:
        names, templates = _mirror_words(found, names, places), found.templates
    return Dataset(
        name=found_entry.name,
        kind=found_entry.kind,
        source=Aligned(found.source, places, names, found_entry.kind),
        metric=change.metric or found_entry.metric,
        class_names=names,
        templates=templates,
        split=asked,
        profile=convention.name,
        resizes=change.resize,
        class_indices=known.parent,
        title=found_entry.title,
        layout=found.layout,
        files_sha256=files_sha256(found.source, wanted.root),
        expected=size,
        remarks=(*remarks, *(f"{bad.file}: {bad.reason}" for bad in found.source.bad_samples)),
        shown=f"{found.frames} frames of each clip" if found_entry.kind == "video" else "",
        frames=found.frames,
    )


def _profile(which: Profile | str) -> Profile:
    return profile(which) if isinstance(which, str) else which


def _find(wanted: Wanted, size: int) -> Found:
    """The first layout that has the expected size; if none has, the first that is there at all,
    which is an error if it can't be read. Where several frames are wanted, a layout of one picture
    a clip doesn't count."""
    first = broken = pictures = None
    for read in readers(wanted.entry):
        try:
            found = read(wanted)
        except DataError as error:
            broken = broken or (error if first is None else None)
            continue
        if found is not None and found.frames != wanted.frames:
            pictures, found = found, None
        if found is not None and (not size or len(found.source) == size):
            return found
        first = first or found
    if broken:
        raise broken
    if first is None and pictures:
        raise DataError(
            f"{wanted.entry.title} in {pictures.place} is one picture a clip; --frames "
            f"{wanted.frames} needs the clips themselves: {how_to_get(wanted.entry)}"
        )
    if first is None:
        raise DataError(
            f"{wanted.entry.title} (split {wanted.split}) isn't in {wanted.root}"
            f"{_link(wanted)}: {how_to_get(wanted.entry)}"
        )
    return first


def _link(wanted: Wanted) -> str:
    """What to do with a folder that goes by another name, or what was in one that doesn't."""
    if found := wanted.folders:
        looked = ", ".join(dict.fromkeys(map(str, found)))
        return f" (nothing in {looked} can be read as its {wanted.split} split)"
    where = wanted.root / wanted.entry.name
    return f" (no folder there is called {wanted.entry.name}; link yours: ln -s FOLDER {where})"


def how_to_get(entry: EvaluationSet) -> str:
    """Where the set is looked for, and where it comes from, in a sentence.

    >>> from diptych import datasets
    >>> from diptych.datasets.open import how_to_get
    >>> print(how_to_get(datasets.get("dtd")))
    hub mirror clip-benchmark/wds_vtab-dtd in wds_vtab-dtd/; torchvision's DTD; folders of ...
    """
    ways = (
        [f"hub mirror clip-benchmark/{entry.folders[0]} in {entry.folders[0]}/"]
        if entry.mirrors
        else []
    )
    ways += [f"torchvision's {entry.torchvision}"] if entry.torchvision else []
    ways += [entry.how_to_get] if entry.how_to_get else []
    ways += [f"folders of classes or tables in {entry.name}/"] if entry.kind == "zero-shot" else []
    return "; ".join(ways)


def _check_size(wanted: Wanted, found: Found, size: int, sizes: str) -> list[str]:
    if not size or len(found.source) == size:
        return []
    message = f"{len(found.source):,} samples instead of {size:,}"
    if sizes == "warn":
        return [message]
    note = f" ({wanted.entry.note})" if wanted.entry.note else ""
    raise DataError(
        f"{wanted.entry.title} (split {wanted.split}) in {found.place} has {message}{note}; "
        "another size can be allowed (--sizes warn)"
    )


def _names(
    wanted: Wanted, found: Found, known: Prompts, choice: str
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names in class order, and the class of each of the data's labels (empty: labels are
    classes)."""
    entry = wanted.entry
    if not entry.classes:
        return (), ()
    if choice == "data" or not known.classes:
        if not found.labels:
            raise DataError(
                f"{entry.title} in {found.place} doesn't name its classes "
                "(classnames.txt is missing)"
            )
        if len(found.labels) > entry.classes:
            raise DataError(
                f"{entry.title} in {found.place} has {len(found.labels)} classes "
                f"instead of {entry.classes}"
            )
        return spoken_names(found.labels), ()
    if not found.labels:
        return known.names, ()
    try:
        return known.names, align(found.labels, known)
    except DataError as error:
        raise DataError(f"{entry.title} in {found.place}: {error}") from None


def _mirror_words(found: Found, names: Sequence[str], places: Sequence[int]) -> tuple[str, ...]:
    """The mirror's names in the set's order."""
    words = list(names)
    for number, label in enumerate(found.labels):
        words[places[number] if places else number] = label
    return tuple(words)


def files_sha256(source: Source, root: Path) -> str:
    """Names and sizes of the files that the samples depend on."""
    digest, names = hashlib.sha256(), dict[str, None]()
    for index in range(len(source)):
        names |= dict.fromkeys(source.files(index))
    for name in names:
        path = Path(name)
        parts = (
            sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        )
        for part in parts:
            place = part.relative_to(root) if part.is_relative_to(root) else part
            size = part.stat().st_size if part.exists() else -1
            digest.update(f"{place}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class Aligned(Source):
    """A source with the set's class numbers, or with one caption for each line of a caption member.

    Of captions to choose from, the first is the right one unless the data says otherwise.
    """

    def __init__(
        self, source: Source, class_places: Sequence[int], names: Sequence[str], kind: Kind
    ):
        self._source, self.class_places = source, tuple(class_places)
        self._captioned, self._default = (
            kind in ("retrieval", "choice"),
            0 if kind == "choice" else None,
        )
        self.class_names = tuple(names)
        self.bad_samples: tuple[BadSample, ...] = source.bad_samples

    def __len__(self) -> int:
        return len(self._source)

    def where(self, index: int) -> tuple[str, str]:
        return self._source.where(index)

    def files(self, index: int) -> tuple[str, ...]:
        return self._source.files(index)

    def describe(self) -> str:
        return self._source.describe()

    def __getitem__(self, index: int) -> Sample:
        sample = self._source[index]
        label = self._default if sample.label is None else self._place(sample.label)
        captions = (
            chain.from_iterable(map(str.splitlines, sample.captions)) if self._captioned else ()
        )
        return replace(
            sample,
            label=label,
            labels=tuple(map(self._place, sample.labels)),
            captions=tuple(captions),
        )

    def _place(self, label: int) -> int:
        if label < 0:  # as some write of what has no label
            raise DataError(f"class {label} is none: classes are counted from 0")
        if self.class_places and label >= len(self.class_places):
            raise DataError(
                f"class {label} lies outside the {len(self.class_places)} classes that the data "
                "names"
            )
        place = self.class_places[label] if self.class_places else label
        if self.class_names and place >= len(self.class_names):
            raise DataError(f"class {place} lies outside the set's {len(self.class_names)}")
        return place
