"""CLIP_benchmark's webdataset mirrors: `wds_ID/{train,test}/{nshards.txt,0.tar,…}` with names and
templates beside."""

import re
from pathlib import Path

from diptych.data import Shards
from diptych.data.indexing import open_index
from diptych.datasets.entry import Found, Wanted
from diptych.datasets.layouts.base import read_lines, several
from diptych.errors import DataError

_IMAGES = ("webp", "png", "jpg", "jpeg")
CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
KIND = "dataset_type.txt"
"""Files beside the folders of the splits."""


def read(wanted: Wanted) -> Found | None:
    """The shards of a split (of all splits, for `all`); None where there are none."""
    for folder in wanted.folders:
        shards = [
            shard
            for split in several((wanted.split,))
            for shard in _shards(folder, wanted.split_names(split))
        ]
        if shards:
            return Found(
                layout="webdataset",
                place=folder,
                source=Shards(
                    open_index([*map(str, shards)], wanted.cache),
                    image_keys=_IMAGES,
                    captioner=wanted.captioner,
                ),
                labels=read_labels(folder / CLASS_NAMES),
                templates=_templates(folder / TEMPLATES),
            )
    return None


def _shards(folder: Path, names: tuple[str, ...]) -> list[Path]:
    split = next((path for name in names if (path := folder / name).is_dir()), None)
    return numbered_shards(split) if split else []


def numbered_shards(split: Path) -> list[Path]:
    """The shards in the folder of a split by their numbers. Raises DataError if there are others
    than its `nshards.txt` says, where it has one."""
    found = sorted(
        split.glob("*.tar"), key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)]
    )
    if (counted := split / "nshards.txt").exists():
        text = "".join(read_lines(counted)).strip()
        if not text.isdecimal():
            raise DataError(f"{counted} should hold the number of shards, but holds {text!r}")
        expected = [split / f"{number}.tar" for number in range(int(text))]
        if missing := [path.name for path in expected if path not in found]:
            raise DataError(
                f"{split} should hold {text} shards (nshards.txt), but lacks {', '.join(missing)}"
            )
        return expected
    return found


def read_labels(path: Path) -> tuple[str, ...]:
    """An empty line is a class with an empty name (CLEVR's), unless it is the last."""
    return tuple(line.strip() for line in read_lines(path)) if path.exists() else ()


def _templates(path: Path) -> tuple[str, ...]:
    return read_templates(path) if path.exists() else ()


def read_templates(path: Path) -> tuple[str, ...]:
    """One a line, with `{c}` for the class."""
    return tuple(line.replace("{c}", "{}") for line in read_lines(path) if line.strip())
