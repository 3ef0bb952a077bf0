"""ImageNet's validation pictures as they come out of their tar: side by side in one folder, under
the publisher's names, with their classes in a file beside."""

from collections.abc import Iterator
from pathlib import Path

from diptych.batch import Sample
from diptych.data.wordnet import imagenet_names
from diptych.datasets.entry import Found, Wanted
from diptych.datasets.layouts.base import Files, read_lines
from diptych.errors import DataError

_PICTURES = "ILSVRC2012_val_*.JPEG"
_KAGGLE, _LINES = "LOC_val_solution.csv", "imagenet_2012_validation_synset_labels.txt"
_ABOVE = 4
"""Folders above the pictures in which the file may lie: Kaggle's is in the outermost."""


def flat(wanted: Wanted) -> Found | None:
    """`val/ILSVRC2012_val_00000001.JPEG`, with Kaggle's LOC_val_solution.csv or a file of WordNet
    ids, one a line in the order of the pictures, there or above. Raises DataError where there are
    pictures and no such file."""
    if wanted.split not in ("test", "all"):
        return None
    for folder in (*wanted.folders, wanted.root):
        for place in (*(folder / name for name in wanted.split_names("test")), folder):
            if pictures := sorted(place.glob(_PICTURES)):
                return _found(place, pictures)
    return None


def _found(place: Path, pictures: list[Path]) -> Found:
    classes = _classes(place)
    places = {label: number for number, label in enumerate(imagenet_names())}
    if strange := [each.name for each in pictures if classes.get(each.stem) not in places]:
        raise DataError(
            f"{place}: the file of classes has no class of ImageNet-1k's for {len(strange)} "
            f"pictures, such as {strange[0]}"
        )
    samples = [
        Sample(key=each.name, image=str(each), label=places[classes[each.stem]])
        for each in pictures
    ]
    source = Files(samples, "pictures", place)
    return Found(layout="flat", place=place, source=source, labels=tuple(places))


def _classes(place: Path) -> dict[str, str]:
    """The WordNet id of each picture, by the stem of its name."""
    for folder in [place, *place.absolute().parents[:_ABOVE]]:
        if (path := folder / _KAGGLE).exists():
            return dict(_solutions(path))
        if (path := folder / _LINES).exists():
            ids = map(str.strip, read_lines(path))
            return {f"ILSVRC2012_val_{number:08d}": each for number, each in enumerate(ids, 1)}
    raise DataError(
        f"{place} holds ImageNet's validation pictures without their classes: put {_KAGGLE} (of "
        f"Kaggle) or {_LINES} beside them, or sort them into a folder for each WordNet id"
    )


def _solutions(path: Path) -> Iterator[tuple[str, str]]:
    """Lines such as `ILSVRC2012_val_00048981,n03995372 85 1 499 272`, below one of headings."""
    for line in filter(None, read_lines(path)[1:]):
        name, _, boxes = line.partition(",")
        yield name, boxes.split(maxsplit=1)[0] if boxes.strip() else ""
