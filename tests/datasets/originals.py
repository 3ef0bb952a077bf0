"""Small copies of the layouts in which publishers and torchvision keep their sets.

Pictures are PNG whatever their name ends with, so that their colours stay exact; nobody goes by
the name.
"""

import json
import pickle
import struct
from pathlib import Path

import numpy as np

from tests.datasets.miniature import captions_of, png


def put(path: Path, content: bytes | str) -> Path:
    """The file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def voc(root: Path) -> None:
    """Two pictures: a cat and a difficult dog; two cats."""
    folder = root / "VOCdevkit" / "VOC2007"
    put(folder / "ImageSets/Main/test.txt", "000001\n000002\n")
    objects = {"000001": [("cat", 0), ("dog", 1)], "000002": [("cat", 0), ("cat", 0)]}
    for stem, found in objects.items():
        boxes = "".join(
            f"<object><name>{name}</name><difficult>{difficult}</difficult>"
            f"<bndbox><xmin>{4 * n}</xmin><ymin>2</ymin>"
            f"<xmax>{4 * n + 8}</xmax><ymax>12</ymax></bndbox></object>"
            for n, (name, difficult) in enumerate(found)
        )
        put(folder / f"Annotations/{stem}.xml", f"<annotation>{boxes}</annotation>")
        put(folder / f"JPEGImages/{stem}.jpg", png(int(stem)))


def objectnet(root: Path) -> None:
    """Three folders, two of which ImageNet has too."""
    folder = root / "objectnet" / "objectnet-1.0"
    names = {"alarm_clock": "Alarm clock", "tray": "Tray", "backpack": "Backpack"}
    put(folder / "mappings/folder_to_objectnet_label.json", json.dumps(names))
    put(
        folder / "mappings/objectnet_to_imagenet_1k.json",
        json.dumps({"Alarm clock": "a", "Backpack": "b"}),
    )
    for number, name in enumerate(names):
        put(folder / f"images/{name}/x.png", png(number))


def karpathy(root: Path) -> None:
    """Three pictures, two of them in the test split."""
    images = [
        {
            "filepath": "val2014",
            "filename": f"{n}.jpg",
            "split": split,
            "sentences": [{"raw": t} for t in captions_of(n)],
        }
        for n, split in enumerate(("test", "train", "test"))
    ]
    put(root / "coco/dataset_coco.json", json.dumps({"images": images}))
    for number in range(3):
        put(root / f"coco/val2014/{number}.jpg", png(number))


def coco_annotations(root: Path) -> None:
    """COCO's own form, as CLIP_benchmark's annotation files have it."""
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(2)]
    annotations = [{"image_id": n, "caption": text} for n in range(2) for text in captions_of(n)]
    put(
        root / "coco/coco_test_karpathy.json",
        json.dumps({"images": images, "annotations": annotations}),
    )
    for number in range(2):
        put(root / f"coco/val2014/{number}.jpg", png(number))


def flickr_lines(root: Path) -> None:
    """CLIP_benchmark's text file for Flickr."""
    lines = ["image,caption", *(f"{n}.jpg,{text}" for n in range(2) for text in captions_of(n))]
    put(root / "flickr30k/flickr30k_test_karpathy.txt", "\n".join(lines))
    for number in range(2):
        put(root / f"flickr30k/images/{number}.jpg", png(number))


def winoground(root: Path) -> None:
    """Two pairs of pictures."""
    import pyarrow
    from pyarrow import parquet

    rows = [
        {
            "image_0": {"bytes": png(2 * n)},
            "image_1": {"bytes": png(2 * n + 1)},
            "caption_0": f"a {n}",
            "caption_1": "b",
        }
        for n in range(2)
    ]
    (root / "winoground").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "winoground/test.parquet")


def sugarcrepe(root: Path) -> None:
    """One picture with a right and a wrong caption."""
    row = {"filename": "1.jpg", "caption": "right", "negative_caption": "wrong"}
    put(root / "sugarcrepe/swap_obj.json", json.dumps({"7": row}))
    put(root / "sugarcrepe/val2017/1.jpg", png(1))


def clip(path: Path, frames: int, rate: int = 10, codec: str = "mpeg4", **options: str) -> Path:
    """A clip whose frame n is grey, the lighter the later; `options` are the codec's."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.options = options
        for number in range(frames):
            picture = np.full((32, 32, 3), 40 + 4 * number, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def mnist(root: Path) -> None:
    """Ten pictures, one a class, in the original's files of numbers."""
    pictures = b"".join(bytes([25 * n]) * 784 for n in range(10))
    raw = root / "MNIST/raw"
    for part in ("t10k", "train"):
        put(raw / f"{part}-images-idx3-ubyte", struct.pack(">4i", 2051, 10, 28, 28) + pictures)
        put(raw / f"{part}-labels-idx1-ubyte", struct.pack(">2i", 2049, 10) + bytes(range(10)))


def cifar10(root: Path, names: list[str]) -> None:
    """Ten pictures, one a class, in the original's pickled batches; their checksums aren't the real
    ones."""
    folder = root / "cifar-10-batches-py"
    data = np.repeat(np.arange(10, dtype=np.uint8)[:, None], 3072, axis=1)
    batch = pickle.dumps({"data": data, "labels": list(range(10))})
    for name in ("test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        put(folder / name, batch)
    put(folder / "batches.meta", pickle.dumps({"label_names": names}))


def caltech101(root: Path, folders: list[str]) -> None:
    """One picture in each folder."""
    for number, name in enumerate(folders):
        put(root / f"caltech101/101_ObjectCategories/{name}/image_0001.jpg", png(number))


def eurosat(root: Path, folders: list[str]) -> None:
    """One picture in each folder."""
    for number, name in enumerate(folders):
        put(root / f"eurosat/2750/{name}/{name}_1.jpg", png(number))


def food101(root: Path, classes: list[str]) -> None:
    """One picture of each class in either split."""
    for split in ("train", "test"):
        put(
            root / f"food-101/meta/{split}.json",
            json.dumps({name: [f"{name}/{split}"] for name in classes}),
        )
        for number, name in enumerate(classes):
            put(root / f"food-101/images/{name}/{split}.jpg", png(number))


def sun397(root: Path, classes: list[str]) -> None:
    """One picture of each class, and the list of classes."""
    put(root / "SUN397/ClassName.txt", "".join(f"/{name[0]}/{name}\n" for name in classes))
    for number, name in enumerate(classes):
        put(root / f"SUN397/{name[0]}/{name}/sun_{number}.jpg", png(number))


def dtd(root: Path, classes: list[str]) -> None:
    """One picture of each class in the test split of the first partition."""
    lines = [f"{name}/{name}_0001.jpg" for name in classes]
    put(root / "dtd/dtd/labels/test1.txt", "\n".join(lines) + "\n")
    for number, line in enumerate(lines):
        put(root / f"dtd/dtd/images/{line}", png(number))


def aircraft(root: Path, classes: list[str]) -> None:
    """One picture of each variant in the test split."""
    data = root / "fgvc-aircraft-2013b/data"
    put(data / "variants.txt", "\n".join(classes) + "\n")
    put(
        data / "images_variant_test.txt",
        "".join(f"{n:07d} {name}\n" for n, name in enumerate(classes)),
    )
    for number in range(len(classes)):
        put(data / f"images/{number:07d}.jpg", png(number))


def pets(root: Path, classes: list[str]) -> None:
    """One picture of each breed."""
    folder = root / "oxford-iiit-pet"
    lines = [f"{name.lower().replace(' ', '_')}_1 {n + 1} 1 1\n" for n, name in enumerate(classes)]
    put(folder / "annotations/test.txt", "".join(lines))
    for number, line in enumerate(lines):
        put(folder / f"images/{line.split()[0]}.jpg", png(number))


def gtsrb(root: Path) -> None:
    """Three signs of the test split, of classes 5, 0 and 42."""
    lines = ["Filename;ClassId", *(f"{n:05d}.ppm;{label}" for n, label in enumerate((5, 0, 42)))]
    put(root / "gtsrb/GT-final_test.csv", "\n".join(lines))
    for number in range(3):
        put(
            root / f"gtsrb/GTSRB/Final_Test/Images/{number:05d}.ppm",
            b"P6 2 2 255\n" + bytes([number] * 12),
        )


def fer2013(root: Path) -> None:
    """One face of each of the seven numbers in the public test, as fer2013.csv has them."""
    rows = [f"{n},{' '.join([str(n)] * 2304)},PublicTest" for n in range(7)]
    put(root / "fer2013/fer2013.csv", "\n".join(["emotion,pixels,Usage", *rows]))


def stl10(root: Path, names: list[str]) -> None:
    """One picture of each class in the binary files; labels count from 1."""
    folder = root / "stl10_binary"
    pictures = np.repeat(np.arange(10, dtype=np.uint8)[:, None], 3 * 96 * 96, axis=1).tobytes()
    for part in ("train", "test"):
        put(folder / f"{part}_X.bin", pictures)
        put(folder / f"{part}_y.bin", bytes(range(1, 11)))
    put(folder / "unlabeled_X.bin", b"")
    put(folder / "class_names.txt", "\n".join(names))


def flowers102(root: Path) -> None:
    """One picture of each class, all in the test split; labels count from 1."""
    from scipy.io import savemat

    folder = root / "flowers-102"
    for number in range(102):
        put(folder / f"jpg/image_{number + 1:05d}.jpg", png(number))
    savemat(folder / "imagelabels.mat", {"labels": np.arange(1, 103)})
    savemat(folder / "setid.mat", {"trnid": [1], "valid": [2], "tstid": np.arange(1, 103)})


def cars(root: Path, names: list[str]) -> None:
    """One picture of each class in the test split; labels count from 1."""
    from scipy.io import savemat

    folder = root / "stanford_cars"
    for number in range(len(names)):
        put(folder / f"cars_test/{number:05d}.jpg", png(number))
    rows = [(f"{number:05d}.jpg", number + 1) for number in range(len(names))]
    annotations = np.array(rows, dtype=[("fname", object), ("class", object)])
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": annotations})
    (folder / "devkit").mkdir()
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(names, dtype=object)})
