"""Small copies of evaluation sets, in the layouts in which the real ones lie on disk.

    write(entry, root)                      # as the webdataset mirror
    write(entry, root, layout="folders")    # also: "parquet", "torchvision", "original"

Every class has `each` pictures, up to `limit` pictures in all. A picture's colour tells its class.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from diptych.datasets import EvaluationSet
from diptych.datasets.class_names import prompts

LIMIT = 12


def png(number: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """A picture of one colour, which tells its number."""
    data = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256 % 256, 128)).save(data, "png")
    return data.getvalue()


def number_of(image: bytes | str) -> int:
    """The number that a picture's colour tells."""
    red, green, _ = (
        Image.open(image if isinstance(image, str) else io.BytesIO(image))
        .convert("RGB")
        .getpixel((0, 0))
    )
    return red + 256 * green


def labels_of(entry: EvaluationSet) -> tuple[str, ...]:
    """What the data of a set calls its classes; made-up words where only the data knows."""
    known = prompts(entry.prompts or entry.name).classes
    return tuple(known) if known else tuple(f"kind {number}" for number in range(entry.classes))


def names_of(entry: EvaluationSet) -> tuple[str, ...]:
    """The lines of a mirror's classnames.txt."""
    known = prompts(entry.prompts or entry.name)
    return known.names if known.classes else labels_of(entry)


def write(
    entry: EvaluationSet,
    root: Path,
    *,
    layout: str = "webdataset",
    split: str = "test",
    count: int = LIMIT,
    order: Sequence[int] | None = None,
) -> Path:
    """`count` samples of a set below `root`; sample i has the class i (modulo the number of
    classes).

    `order`: the data's class number n is the set's class order[n]. Returns the folder that was
    written."""
    order = tuple(order if order is not None else range(entry.classes))
    writers = {"webdataset": _mirror, "folders": _folders, "parquet": _parquet}
    return writers[layout](entry, root, split, count, order)


def captions_of(number: int) -> list[str]:
    """Five captions, the second with a comma."""
    return [
        f"picture {number}",
        *(f"a picture, number {number}, told {way} times" for way in range(2, 6)),
    ]


def _mirror(entry: EvaluationSet, root: Path, split: str, count: int, order: Sequence[int]) -> Path:
    folder = root / entry.folders[0]
    (folder / split).mkdir(parents=True)
    if entry.classes:
        names = names_of(entry)
        templates = next(iter(prompts(entry.prompts or entry.name).templates.values()))
        lines = [template.replace("{}", "{c}") for template in templates]
        (folder / "classnames.txt").write_text("\n".join(names[place] for place in order) + "\n")
        (folder / "zeroshot_classification_templates.txt").write_text("\n".join(lines) + "\n")
    shards = np.array_split(np.arange(count), 2)
    (folder / split / "nshards.txt").write_text(f"{len(shards)}\n")
    for shard, numbers in enumerate(shards):
        with tarfile.open(folder / split / f"{shard}.tar", "w") as tar:
            for number in map(int, numbers):
                for ending, data in _members(entry, number, order).items():
                    member = tarfile.TarInfo(f"s{number:07d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    kind = {"retrieval": "retrieval", "choice": "retrieval", "multilabel": "multilabel"}.get(
        entry.kind
    )
    if kind:
        (folder / "dataset_type.txt").write_text(f"{kind}\n")
    return folder


def _members(entry: EvaluationSet, number: int, order: Sequence[int]) -> dict[str, bytes]:
    image = {"png": png(number)}
    if entry.kind == "retrieval":
        return image | {"txt": "\n".join(captions_of(number)).encode()}
    if entry.kind == "choice":
        return image | {"txt": f"right {number}\nwrong {number}".encode()}
    place = order.index(number % entry.classes)
    if entry.kind == "multilabel":
        marks = np.zeros(entry.classes, np.float32)
        marks[[place, order.index((number + 1) % entry.classes)]] = 1
        data = io.BytesIO()
        np.save(data, marks)
        return image | {"npy": data.getvalue()}
    return image | {"cls": str(place).encode()}


def _folders(
    entry: EvaluationSet, root: Path, split: str, count: int, order: Sequence[int]
) -> Path:
    folder = root / entry.name
    labels = labels_of(entry)
    for number in range(count):
        label = labels[number % entry.classes].replace("/", " ")
        (folder / split / label).mkdir(parents=True, exist_ok=True)
        (folder / split / label / f"{number}.png").write_bytes(png(number))
    return folder


def _parquet(
    entry: EvaluationSet, root: Path, split: str, count: int, order: Sequence[int]
) -> Path:
    import pyarrow
    from pyarrow import parquet

    folder = root / entry.name / "data"
    folder.mkdir(parents=True)
    images = [{"bytes": png(number), "path": None} for number in range(count)]
    columns = {"image": images}
    metadata = {}
    if entry.classes:
        labels = labels_of(entry)
        columns["label"] = [order.index(number % entry.classes) for number in range(count)]
        features = {"label": {"names": [labels[place] for place in order], "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    else:
        columns["caption"] = [captions_of(number) for number in range(count)]
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder.parent
