"""What the parts of a dataset are called: training, validation and test, in the usual spellings."""

import re
from collections.abc import Iterable

SPLITS = {
    "train": ("train", "trainval", "training"),
    "val": ("val", "validation", "valid", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Split -> what folders, files and cells of a table may call it."""
_SPELLINGS = {spelling: split for split, spellings in SPLITS.items() for spelling in spellings}
_FILLERS = {"set", "split", "data", "images"}
"""Words that say nothing beside the name of a split: `test_set`, `train-images`."""


def split_of(name: str) -> str:
    """The split that a name means: `train`, `val` or `test`; empty for any other name.

    >>> from diptych.data.splits import split_of
    >>> split_of("Training"), split_of("val2017"), split_of("test_set"), split_of("steam train")
    ('train', 'val', 'test', '')
    """
    split, rest = _parse(name)
    return "" if rest else split


def find_parts(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Split -> those of the `names`, of files or folders that lie side by side, that make it up.

    They are parts where two splits are called alike but for the split (`seg_train`, `seg_test`),
    or where all names are those of one split. Else none is: among `bus`, `car` and `train` a train
    is a train.

    >>> from diptych.data.splits import find_parts
    >>> find_parts(["my-train-0", "my-train-1", "my-test-0", "raw"])
    {'train': ('my-train-0', 'my-train-1'), 'test': ('my-test-0',)}
    >>> find_parts(["bus", "car", "train"]), find_parts(["val"])
    ({}, {'val': ('val',)})
    """
    names, alike = list(names), dict[tuple[str, ...], dict[str, tuple[str, ...]]]()
    for name in names:
        split, rest = _parse(name)
        if split:
            parts = alike.setdefault(rest, {})
            parts[split] = (*parts.get(split, ()), name)
    whole = alike.get(())
    if whole and (len(whole) > 1 or sum(map(len, whole.values())) == len(names)):
        return whole
    several = [parts for parts in alike.values() if len(parts) > 1]
    return several[0] if len(several) == 1 else {}


def _parse(name: str) -> tuple[str, tuple[str, ...]]:
    """The split in a name, and its other words; an empty split where none or several are in it."""
    words = [word.removesuffix("set") for word in re.findall(r"[^\W\d_]+", name.casefold())]
    found = {_SPELLINGS[word] for word in words if word in _SPELLINGS}
    rest = tuple(word for word in words if word not in _SPELLINGS and word not in {"", *_FILLERS})
    return (found.pop(), rest) if len(found) == 1 else ("", rest)
