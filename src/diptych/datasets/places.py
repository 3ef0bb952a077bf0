"""Where below the data root a dataset lies, whatever people called its folder."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from diptych.data.splits import split_of

_INSIDE = {"images", "data", "clsloc"}
"""Folders between a dataset's own and its splits: CoOp's `imagenet/images/val`, Kaggle's
`ILSVRC/Data/CLS-LOC/val`."""
_DEPTH = 2


def bare(name: str) -> str:
    """A name by its letters and digits, so that spellings are one: `Food-101`, `food_101`.

    >>> from diptych.datasets.places import bare
    >>> bare("Food-101") == bare("food_101")
    True
    """
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def places(root: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The folders that go by one of the names, in whatever spelling, in the order of the names:
    below the root, the root itself, or the folder above it where the root is a split's (`val`).

    Folders that stand between a dataset's own and its splits come before it.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych.datasets.places import places
    >>> root = Path(tempfile.mkdtemp())
    >>> (root / "Food-101").mkdir()
    >>> [place.name for place in places(root, ("wds_food101", "food101"))]
    ['Food-101']
    """
    wanted = dict.fromkeys(map(bare, names))
    here = Path(os.path.abspath(root))
    candidates = [*_folders(root), root] if root.is_dir() else []
    spelt = {path: path.name for path in candidates} | {root: here.name}
    if split_of(here.name):
        spelt[here.parent] = here.parent.name
    found = dict[Path, None]()
    for name in wanted:
        for path in sorted(spelt, key=lambda path: (spelt[path] not in names, path)):
            if bare(spelt[path]) == name:
                found |= dict.fromkeys([*_inside(path, {*wanted, *_INSIDE}, _DEPTH), path])
    return tuple(found)


def _inside(folder: Path, names: set[str], depth: int) -> Iterator[Path]:
    """The folders of such names in a folder, the innermost first."""
    for path in _folders(folder) if depth else ():
        if bare(path.name) in names:
            yield from _inside(path, names, depth - 1)
            yield path


def _folders(folder: Path) -> list[Path]:
    """In the order of their names."""
    return [folder / each.name for each in sorted(_scan(folder), key=lambda each: each.name)]


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [each for each in entries if each.is_dir() and not each.name.startswith(".")]
