"""A folder per class, under a folder per split where there are several."""

from pathlib import Path

from diptych.data.folders import class_folders, open_class_folders
from diptych.data.joined import Joined
from diptych.data.source import Source
from diptych.data.splits import find_parts, split_of
from diptych.datasets.entry import Found, Wanted
from diptych.datasets.layouts.base import several


def read(wanted: Wanted) -> Found | None:
    """Class folders in `SET/SPLIT/` or, of a set that isn't split, in `SET/`; None where there are
    none."""
    for folder in wanted.folders:
        places = _places(folder, wanted)
        parts = [
            part for place in places if len(part := open_class_folders(place, wanted.captioner))
        ]
        if parts:
            source: Source = parts[0] if len(parts) == 1 else Joined(parts)
            labels = max(map(_labels, places), key=len)
            if all(part.class_names == parts[0].class_names for part in parts):
                return Found(layout="folders", place=folder, source=source, labels=labels)
    return None


def _labels(folder: Path) -> tuple[str, ...]:
    return tuple(path.name for path in class_folders(folder))


def _places(folder: Path, wanted: Wanted) -> list[Path]:
    below = {path.name.lower(): path for path in class_folders(folder)}
    # A split's folder holds folders: CIFAR-100's class `train` doesn't, and neither do ImageNet's
    # test pictures, for which nobody has labels.
    filled = [name for name, path in below.items() if split_of(name) and class_folders(path)]
    if filled or find_parts(below):
        splits = map(wanted.split_names, several((wanted.split,)))
        chosen = (next((name for name in names if name in filled), "") for names in splits)
        return [below[name] for name in dict.fromkeys(chosen) if name]
    whole = wanted.split == "all" or (wanted.split == "test" and "all" not in wanted.entry.sizes)
    return [folder] if whole and below else []
