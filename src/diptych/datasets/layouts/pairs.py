"""Captions in their publishers' own layouts: Karpathy's splits, COCO's annotations, Winoground,
SugarCrepe."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diptych.batch import Sample
from diptych.datasets.entry import Found, Wanted
from diptych.datasets.layouts.base import Files, read_lines
from diptych.datasets.layouts.originals import read_json
from diptych.errors import DataError, first_line


def captions(wanted: Wanted) -> Found | None:
    """A folder with pictures and one of: Karpathy's `dataset_*.json`, COCO's json of the split
    (`coco_test_karpathy.json`), or lines `picture.jpg,caption` (`flickr30k_test_karpathy.txt`)."""
    for folder in wanted.folders:
        for pattern, read in _CAPTIONS.items():
            for path in sorted(folder.glob(pattern.replace("SPLIT", wanted.split))):
                try:
                    pairs = read(path, wanted.split)
                except (KeyError, TypeError, AttributeError) as error:
                    raise DataError(
                        f"{path} isn't a file of captions as expected: {error!r}"
                    ) from None
                samples = [
                    Sample(key=name, image=str(_picture(folder, name)), captions=tuple(texts))
                    for name, texts in pairs.items()
                ]
                return Found(
                    layout=path.name,
                    place=folder,
                    source=Files(samples, "captioned pictures", path),
                )
    return None


def _karpathy(path: Path, split: str) -> dict[str, list[str]]:
    found = dict[str, list[str]]()
    for image in read_json(path)["images"]:
        if image["split"] == split:
            name = f"{image.get('filepath', '')}/{image['filename']}".lstrip("/")
            found[name] = [each["raw"] for each in image["sentences"]]
    return found


def _coco(path: Path, _split: str) -> dict[str, list[str]]:
    content = read_json(path)
    texts: dict[Any, list[str]] = defaultdict(list)
    for each in content["annotations"]:
        texts[each["image_id"]].append(each["caption"])
    return {
        image["file_name"]: texts[image["id"]]
        for image in content["images"]
        if image["id"] in texts
    }


def _lines(path: Path, _split: str) -> dict[str, list[str]]:
    """Below one line of headings. A caption may hold commas; a picture's name ends with .jpg."""
    texts: dict[str, list[str]] = defaultdict(list)
    for line in filter(str.strip, read_lines(path)[1:]):
        stem, comma, text = line.partition(".jpg,")
        if not comma:
            raise DataError(f"{path}: {line[:60]!r} isn't picture.jpg,caption")
        texts[f"{stem.strip()}.jpg"].append(text.strip().strip('"'))
    return texts


_CAPTIONS = {"dataset_*.json": _karpathy, "*SPLIT*.json": _coco, "*SPLIT*.txt": _lines}
_PLACES = (
    "",
    "images",
    "val2014",
    "train2014",
    "val2017",
    "flickr30k-images",
    "Flicker8k_Dataset",
    "Images",
)


def _picture(folder: Path, name: str) -> Path:
    """Where the picture lies; the first place, if it lies nowhere (reading it then says so)."""
    names = dict.fromkeys((name, Path(name).name))
    places = [folder / place / each for each in names for place in _PLACES]
    return next((path for path in places if path.exists()), places[0])


def winoground(wanted: Wanted) -> Found | None:
    """The hub's parquet: two pictures and two captions a row. Each picture is a sample whose key is
    `ROW/PICTURE`, and whose label is the caption that fits."""
    for folder in wanted.folders:
        paths = sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])
        if paths:
            samples = [sample for path in paths for sample in _pairs(path)]
            return Found(
                layout="table", place=folder, source=Files(samples, "pictures of pairs", folder)
            )
    return None


def _pairs(path: Path) -> Iterable[Sample]:
    from pyarrow import ArrowException, parquet

    try:
        rows = parquet.read_table(
            path, columns=["image_0", "image_1", "caption_0", "caption_1"]
        ).to_pylist()
    except (ArrowException, OSError) as error:
        raise DataError(
            f"{path} can't be read as Winoground's table: {first_line(error)}"
        ) from None
    for number, row in enumerate(rows):
        for which in (0, 1):
            image = row[f"image_{which}"]["bytes"]
            texts = (row["caption_0"], row["caption_1"])
            yield Sample(key=f"{number}/{which}", image=image, captions=texts, label=which)


def sugarcrepe(wanted: Wanted) -> Found | None:
    """`PART.json` beside COCO's val2017/. A sample's captions are the right one and the wrong one;
    its label is 0."""
    part = wanted.entry.mirrors[0].rpartition("/")[2]
    for folder in (
        *wanted.folders,
        wanted.root / "sugarcrepe",
        wanted.root / "sugar_crepe",
        wanted.root,
    ):
        path = folder / f"{part}.json"
        if not path.exists():
            continue
        try:
            samples = [
                Sample(
                    key=key,
                    image=str(_picture(folder, row["filename"])),
                    captions=(row["caption"], row["negative_caption"]),
                    label=0,
                )
                for key, row in read_json(path).items()
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} isn't a file of SugarCrepe: {error!r}") from None
        return Found(
            layout=path.name,
            place=folder,
            source=Files(samples, "pictures with two captions", path),
        )
    return None
