"""Pictures in their publisher's own layout, where it isn't just folders: VOC2007, ObjectNet,
Caltech-101."""

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from diptych.batch import Sample
from diptych.bounded import parse_json, read_text
from diptych.data.folders import class_folders, open_class_folders
from diptych.data.source import Source
from diptych.datasets.entry import Found, Wanted
from diptych.datasets.layouts.base import Files, read_lines
from diptych.errors import DataError

_VOC = (
    *(
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
    ),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class _Object(NamedTuple):
    name: str
    box: tuple[int, int, int, int]
    difficult: bool


def voc(wanted: Wanted) -> Found | None:
    """VOCdevkit/VOC2007, whole pictures: `labels` are the classes of which an object is there.

    Objects marked as difficult count, unless the profile ignores them: a class of which only
    difficult ones are there then stands in `meta["ignored"]`, being neither present nor absent
    (Everingham et al. 2010).
    """
    if (folder := _voc(wanted)) is None:
        return None
    samples = []
    for path, objects in _annotated(folder, wanted):
        clear = {item.name for item in objects if not (item.difficult and wanted.ignore_difficult)}
        unclear = {item.name for item in objects} - clear
        labels, ignored = (tuple(sorted(map(_VOC.index, names))) for names in (clear, unclear))
        meta = {"ignored": ignored} if ignored else None
        samples.append(Sample(key=path.stem, image=str(path), labels=labels, meta=meta))
    return Found(
        layout="VOCdevkit", place=folder, source=Files(samples, "pictures", folder), labels=_VOC
    )


def voc_boxes(wanted: Wanted) -> Found | None:
    """VOCdevkit/VOC2007, every object cut out at its box, difficult ones too."""
    if (folder := _voc(wanted)) is None:
        return None
    boxes = [
        (path, number, item)
        for path, objects in _annotated(folder, wanted)
        for number, item in enumerate(objects)
    ]
    return Found(layout="VOCdevkit", place=folder, source=Boxes(folder, boxes), labels=_VOC)


class Boxes(Source):
    """Pieces of pictures, cut at pixel coordinates as annotated and kept without loss (PNG)."""

    def __init__(self, folder: Path, boxes: list[tuple[Path, int, _Object]]):
        self._folder, self._boxes = folder, boxes

    def __len__(self) -> int:
        return len(self._boxes)

    def where(self, index: int) -> tuple[str, str]:
        path, number, _ = self._boxes[index]
        return str(path), f"{path.stem}/{number}"

    def __getitem__(self, index: int) -> Sample:
        from PIL import Image

        path, _, item = self._boxes[index]
        with Image.open(path) as picture:
            piece = picture.convert("RGB").crop(item.box)
        return Sample(key=self.where(index)[1], image=png(piece), label=_VOC.index(item.name))

    def describe(self) -> str:
        return f"{len(self):,} boxes in {self._folder}"


def png(picture: Any) -> bytes:
    """A Pillow picture as the bytes of a PNG file, quickly rather than small."""
    data = io.BytesIO()
    picture.save(data, "png", compress_level=1)
    return data.getvalue()


def _voc(wanted: Wanted) -> Path | None:
    places = [wanted.root, *wanted.folders, wanted.root / "voc2007"]
    folders = (place / inner for place in places for inner in ("VOCdevkit/VOC2007", "VOC2007"))
    return next((folder for folder in folders if folder.is_dir()), None)


def _annotated(folder: Path, wanted: Wanted) -> Iterator[tuple[Path, list[_Object]]]:
    """Each picture of the split, in its list's order, with its objects."""
    listed = folder / "ImageSets" / "Main" / f"{wanted.split}.txt"
    if not listed.exists():
        raise DataError(
            f"{folder} has no {listed.relative_to(folder)}: the {wanted.split} split isn't "
            "unpacked there"
        )
    for stem in filter(None, map(str.strip, read_lines(listed))):
        yield (
            folder / "JPEGImages" / f"{stem}.jpg",
            _objects(folder / "Annotations" / f"{stem}.xml"),
        )


def _objects(path: Path) -> list[_Object]:
    try:
        found = ElementTree.parse(path).iter("object")
        objects = [_object(item) for item in found]
    except (OSError, ElementTree.ParseError, ValueError, TypeError) as error:
        raise DataError(f"{path} can't be read: {error}") from None
    if strange := {item.name for item in objects} - set(_VOC):
        raise DataError(
            f"{path} names classes that VOC2007 doesn't have: {', '.join(sorted(strange))}"
        )
    return objects


def _object(item: ElementTree.Element) -> _Object:
    left, top, right, bottom = (int(float(item.findtext(f"bndbox/{side}", ""))) for side in _SIDES)
    return _Object(
        item.findtext("name", ""),
        (left, top, right, bottom),
        item.findtext("difficult", "0").strip() == "1",
    )


_SIDES = ("xmin", "ymin", "xmax", "ymax")


def caltech101(wanted: Wanted) -> Found | None:
    """caltech101/101_ObjectCategories, which isn't split: 9,144 pictures with the background,
    unlike torchvision."""
    places = (place / "101_ObjectCategories" for place in (*wanted.folders, wanted.root))
    place = next((place for place in places if place.is_dir()), None)
    if place is None or wanted.split != "all":
        return None
    labels = tuple(folder.name for folder in class_folders(place))
    return Found(
        layout="folders",
        place=place,
        source=open_class_folders(place, wanted.captioner),
        labels=labels,
    )


def objectnet(wanted: Wanted) -> Found | None:
    """objectnet-1.0/{images,mappings}: the classes that ImageNet has too, under ObjectNet's own
    names in lower case.

    The red border of two pixels is left on, as CLIP_benchmark leaves it.
    """
    place = next(
        (
            place
            for folder in wanted.folders
            if (place := folder / "objectnet-1.0" / "images").is_dir()
        ),
        None,
    )
    if place is None:
        return None
    names = _mapping(place.parent, "folder_to_objectnet_label.json")
    shared = set(_mapping(place.parent, "objectnet_to_imagenet_1k.json"))
    folders = sorted(folder for folder, name in names.items() if name in shared)
    samples = [
        Sample(key=str(path.relative_to(place)), image=str(path), label=label)
        for label, folder in enumerate(folders)
        for path in sorted((place / folder).glob("*.png"))
    ]
    labels = tuple(names[folder].lower() for folder in folders)
    return Found(
        layout="objectnet-1.0", place=place, source=Files(samples, "pictures", place), labels=labels
    )


def _mapping(folder: Path, name: str) -> dict[str, str]:
    path = next(
        (path for path in (folder / "mappings" / name, folder.parent / name) if path.exists()), None
    )
    if path is None:
        raise DataError(
            f"{folder} lacks mappings/{name}, which belongs to the zip of objectnet.dev"
        )
    return read_json(path)


def read_json(path: Path) -> Any:
    """A JSON file. Raises DataError."""
    try:
        return parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {error}") from None
