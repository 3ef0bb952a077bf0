"""Classes of data of one's own, joined by name: those of several parts, and those of a file of
names; and what is odd about them."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from diptych.bounded import parse_json, read_text
from diptych.data.splits import split_of
from diptych.data.wordnet import spoken_names
from diptych.errors import DataError, beside, reason

_SHOWN = 5


def read_names(path: Path) -> tuple[str, ...]:
    """Class names from a text file, one a line, in class order; a JSON file holds a list. An empty
    line between others is a class with an empty name. Raises DataError if it can't be read.

    >>> import tempfile
    >>> from diptych.datasets.own_names import read_names
    >>> path = Path(tempfile.mkdtemp(), "names.json")
    >>> _ = path.write_text('["cat", "dog"]')
    >>> read_names(path)
    ('cat', 'dog')
    """
    try:
        text = read_text(path.expanduser())
        lines = parse_json(text) if path.suffix == ".json" else text.rstrip().splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"the class names in {path} can't be read: {reason(error)}{beside(path)}"
        ) from None
    if not lines or not isinstance(lines, list) or not all(isinstance(each, str) for each in lines):
        raise DataError(
            f"{path} holds no class names: write one a line, in class order (JSON: a list of them)"
        )
    return spoken_names([line.strip() for line in lines])


def spelt(name: str) -> str:
    """One spelling of a name: `Ice_Cream` and `ice cream`.

    >>> from diptych.datasets.own_names import spelt
    >>> spelt("Ice_Cream") == spelt("ice-cream"), spelt("C++") == spelt("C")
    (True, False)
    """
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())


def join(parts: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The classes of all parts (split -> names in the order of its class numbers), each once: in
    the order of the alphabet where that of the parts is, else as they come.

    Raises DataError where lists differ and one has a name twice: nobody knows which class is meant.

    >>> from diptych.datasets.own_names import join
    >>> join({"train": ("one", "zero"), "test": ("one", "two", "zero")})
    ('one', 'two', 'zero')
    """
    lists = [list(names) for names in parts.values()]
    if all(names == lists[0] for names in lists):
        return tuple(lists[0])
    for split, names in parts.items():
        if twice := _twice(names):
            raise DataError(
                f"the classes of {' and '.join(parts)} differ and are joined by name, but in "
                f"{split} two classes are called {twice[0]!r}"
            )
    found = dict[str, str]()
    for name in chain.from_iterable(lists):
        found.setdefault(spelt(name), name)
    united = list(found.values())
    return tuple(sorted(united) if all(names == sorted(names) for names in lists) else united)


def places(names: Sequence[str], united: Sequence[str]) -> tuple[int, ...]:
    """The place in `united` of each of a part's names."""
    if list(names) == list(united):
        return tuple(range(len(names)))
    found = {spelt(name): place for place, name in enumerate(united)}
    return tuple(found[spelt(name)] for name in names)


def align_given(
    labels: Sequence[str], spoken: Sequence[str], given: Sequence[str], place: str
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The place in `given`, a list of names, of each class folder, and remarks. `labels` are the
    folders' names in order, `spoken` what captions would call them.

    Folders that are all in the list are found by name, folders that are numbers by number. A list
    of other words, one for each folder, is taken in the order of the folders, which is remarked.
    Raises DataError for a list that is neither.

    >>> from diptych.datasets.own_names import align_given
    >>> align_given(("one", "zero"), ("one", "zero"), ("zero", "one"), "photos")
    ((1, 0), ())
    """
    known = {spelt(name): number for number, name in enumerate(given)}
    found = [
        known.get(spelt(label), known.get(spelt(name), -1)) for label, name in zip(labels, spoken)
    ]
    if -1 not in found and len(set(found)) == len(found):
        return tuple(found), ()
    if all(re.fullmatch(r"\d+", label) and int(label) < len(given) for label in labels):
        return tuple(map(int, labels)), ()
    folders = f"{place} has {len(labels)} class folders ({some(labels)})"
    if len(given) != len(labels):
        raise DataError(
            f"{folders}, but there are {len(given)} class names ({some(given)}); write a name for "
            "each folder, one a line, in the order of the folders"
        )
    if elsewhere := [
        (label, given[number])
        for number, (label, where) in enumerate(zip(labels, found))
        if where not in (-1, number)
    ]:
        label, name = elsewhere[0]
        raise DataError(
            f"the class names don't follow the order of the folders of {place}: the name in place "
            f"of the folder {label!r} is {name!r}; write one a line, in the order {some(labels)}"
        )
    pairs = [f"{label} = {name}" for label, name in zip(labels, given)]
    named = f"class names were taken in the order of the folders: {some(pairs)}"
    return tuple(range(len(labels))), (named,)


def remarks_on(names: Sequence[str], *, asked: bool) -> tuple[str, ...]:
    """What a reader of the figures should know about class names; `asked`: captions are made of
    them.

    >>> from diptych.datasets.own_names import remarks_on
    >>> remarks_on(("zero", "one", "one"), asked=True)
    ("2 classes are called 'one': no caption tells them apart, and the first of them wins",)
    """
    remarks = list[str]()
    if len(names) == 1:
        remarks.append(f"there is a single class ({names[0]}): whatever is asked is right")
    if not asked:
        return tuple(remarks)
    for name, count in Counter(map(spelt, names)).items():
        if count > 1 and name:
            said = next(each for each in names if spelt(each) == name)
            remarks.append(
                f"{count} classes are called {said!r}: no caption tells them apart, and the first "
                "of them wins"
            )
    if empty := sum(not spelt(name) for name in names):
        which = "a class has" if empty == 1 else f"{empty} classes have"
        remarks.append(f"{which} an empty name")
    asks = 'the model is asked for "{}"; name the classes by --class-names'
    if ids := [name for name in names if re.fullmatch(r"n\d{8}", name)]:
        remarks.append(f"classes are called by WordNet ids ({some(ids)}): {asks.format(ids[0])}")
    if numbers := [name for name in names if re.fullmatch(r"\d+", name)]:
        told = asks.format(numbers[0])
        remarks.append(f"classes are called by numbers ({some(numbers)}): {told}")
    if splits := [name for name in names if split_of(name)]:
        remarks.append(f"a class is called {splits[0]!r}, as a part of a dataset might be")
    return tuple(remarks)


def _twice(names: Sequence[str]) -> list[str]:
    counts = Counter(map(spelt, names))
    return [name for name in names if counts[spelt(name)] > 1]


def some(names: Iterable[str]) -> str:
    """The first names, for a sentence."""
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
