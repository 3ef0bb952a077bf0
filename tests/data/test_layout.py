"""A folder that holds captions is read with its captions, however they lie; what can't be read is
refused, and parts of a dataset are never classes."""

import json

import pytest

from diptych.data import class_names_of, open_source
from diptych.errors import DataError, DataWarning
from tests.data.builders import config, picture


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "set"


def fill(folder, files):
    """Write files, given as path -> text; pictures are made."""
    for number, (name, text) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number) if text is None else text.encode())
    return folder


def pairs(tmp_path, place, **options):
    """Picture -> captions, of all samples."""
    source = open_source(config(tmp_path, place, **options))
    samples = [source[n] for n in range(len(source))]
    return {
        str(sample.image).removeprefix(f"{tmp_path}/set/"): sample.captions for sample in samples
    }


COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [
        {"image_id": 2, "caption": "a dog"},
        {"image_id": 1, "caption": "a cat"},
        {"image_id": 2, "caption": "two dogs"},
    ],
}
KARPATHY = {
    "images": [
        {"filename": "a.jpg", "filepath": "x", "split": "train", "sentences": [{"raw": "a cat"}]},
        {"filename": "b.jpg", "filepath": "x", "split": "train", "sentences": [{"raw": "a dog"}]},
    ]
}
TWO = {"a": ("a cat",), "b": ("a dog",)}


@pytest.mark.parametrize(
    ("files", "pictures"),
    [
        # img2dataset's files; the same in one folder; with captions in .json alone
        (
            {
                "00000/000000001.jpg": None,
                "00000/000000001.txt": "a cat",
                "00000/000000001.json": '{"caption": "other"}',
                "00000.parquet": "no table",
                "00001/000010001.jpg": None,
                "00001/000010001.txt": "a dog",
                "00000_stats.json": '{"count": 2}',
            },
            ("00000/000000001.jpg", "00001/000010001.jpg"),
        ),
        ({"a.png": None, "a.txt": "a cat", "b.PNG": None, "b.TXT": "a dog\n"}, ("a.png", "b.PNG")),
        (
            {
                "a.jpg": None,
                "a.json": '{"caption": "a cat"}',
                "b.jpg": None,
                "b.json": '{"text": "a dog"}',
            },
            ("a.jpg", "b.jpg"),
        ),
        (
            {"a.v1.jpg": None, "a.v1.txt": "a cat", "b.jpg": None, "b.jpg.txt": "a dog"},
            ("a.v1.jpg", "b.jpg"),
        ),
        (
            {"a.jpg": None, "a.caption": "a cat", "b.jpg": None, "b.caption": "a dog"},
            ("a.jpg", "b.jpg"),
        ),
        # folders of texts: beside, nested, below, above, with boxes of a detector
        (
            {
                "images/a.jpg": None,
                "images/b.jpg": None,
                "text/a.txt": "a cat",
                "text/b.txt": "a dog",
            },
            ("images/a.jpg", "images/b.jpg"),
        ),
        (
            {
                "images/x/a.jpg": None,
                "images/y/a.jpg": None,
                "captions/x/a.txt": "a cat",
                "captions/y/a.txt": "a dog",
            },
            ("images/x/a.jpg", "images/y/a.jpg"),
        ),
        (
            {
                "x/images/a.jpg": None,
                "y/images/a.jpg": None,
                "x/text/a.txt": "a cat",
                "y/text/a.txt": "a dog",
            },
            ("x/images/a.jpg", "y/images/a.jpg"),
        ),
        (
            {"a.jpg": None, "b.jpg": None, "text/a.txt": "a cat", "text/b.txt": "a dog"},
            ("a.jpg", "b.jpg"),
        ),
        (
            {"images/a.jpg": None, "images/b.jpg": None, "a.txt": "a cat", "b.txt": "a dog"},
            ("images/a.jpg", "images/b.jpg"),
        ),
        (
            {
                "images/a.jpg": None,
                "images/b.jpg": None,
                "labels/a.txt": "0 0.5 0.5 0.1 0.2\n",
                "labels/b.txt": "1 0.5 0.5 .1 2e-1\n0 1 1 1 1",
                "texts/a.txt": "a cat",
                "texts/b.txt": "a dog",
            },
            ("images/a.jpg", "images/b.jpg"),
        ),
        # lists: Flickr8k in two forms, Flickr30k, CSV, JSON, Karpathy, metadata as the hub has it
        (
            {
                "Images/a.jpg": None,
                "Images/b.jpg": None,
                "captions.txt": "image,caption\na.jpg,a cat\nb.jpg,a dog\n",
            },
            ("Images/a.jpg", "Images/b.jpg"),
        ),
        (
            {
                "Flicker8k_Dataset/a.jpg": None,
                "Flicker8k_Dataset/b.jpg": None,
                "Flickr8k.token.txt": "a.jpg#0\ta cat\nb.jpg#0\ta dog\n",
                "Flickr_8k.trainImages.txt": "a.jpg\n",
                "readme.txt": "Flickr8k, see a.jpg, b.jpg",
            },
            ("Flicker8k_Dataset/a.jpg", "Flicker8k_Dataset/b.jpg"),
        ),
        (
            {
                "flickr30k_images/flickr30k_images/a.jpg": None,
                "flickr30k_images/flickr30k_images/b.jpg": None,
                "flickr30k_images/results.csv": "image_name| comment_number| comment\n"
                "a.jpg| 0| a cat\nb.jpg| 0| a dog\n",
            },
            ("flickr30k_images/flickr30k_images/a.jpg", "flickr30k_images/flickr30k_images/b.jpg"),
        ),
        (
            {
                "images/a.jpg": None,
                "images/b.jpg": None,
                "captions.json": '{"a.jpg": "a cat", "b.jpg": ["a dog"]}',
            },
            ("images/a.jpg", "images/b.jpg"),
        ),
        (
            {"x/a.jpg": None, "x/b.jpg": None, "dataset_x.json": json.dumps(KARPATHY)},
            ("x/a.jpg", "x/b.jpg"),
        ),
        (
            {
                "images/a.jpg": None,
                "images/b.jpg": None,
                "metadata.csv": "file_name,text\nimages/a.jpg,a cat\nimages/b.jpg,a dog\n",
            },
            ("images/a.jpg", "images/b.jpg"),
        ),
        (
            {
                "train/a.jpg": None,
                "train/b.jpg": None,
                "train/metadata.jsonl": '{"file_name": "a.jpg", "text": "a cat"}\n'
                '{"file_name": "b.jpg", "text": "a dog"}\n',
            },
            ("train/a.jpg", "train/b.jpg"),
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.filterwarnings("ignore:the pictures of")
def test_captions_are_found_however_they_lie(tmp_path, folder, files, pictures):
    found = pairs(tmp_path, fill(folder, files))
    assert found == {pictures[0]: ("a cat",), pictures[1]: ("a dog",)}


@pytest.mark.filterwarnings("ignore:the pictures of")
def test_coco_is_read_split_by_split(tmp_path, folder):
    files = {"train2017/a.jpg": None, "train2017/b.jpg": None, "val2017/c.jpg": None}
    other = {
        "images": [{"id": 3, "file_name": "c.jpg"}],
        "annotations": [{"image_id": 3, "caption": "a bird"}],
    }
    files |= {
        "annotations/captions_train2017.json": json.dumps(COCO),
        "annotations/captions_val2017.json": json.dumps(other),
        "annotations/instances_train2017.json": '{"annotations": [{"bbox": []}]}',
    }
    fill(folder, files)
    with pytest.raises(DataError, match=r"splits \(train2017, val2017\).*: .*/set/train2017$"):
        open_source(config(tmp_path, folder))
    expected = {"train2017/a.jpg": ("a cat",), "train2017/b.jpg": ("a dog", "two dogs")}
    assert pairs(tmp_path, folder / "train2017") == expected
    assert pairs(tmp_path, folder / "annotations/captions_train2017.json") == expected


def test_texts_beside_the_folder_itself_are_found(tmp_path, folder):
    files = {
        f"{kind}/{split}/{n}.{ending}": text and f"{split} {n}"
        for split in ("train", "val")
        for n in range(2)
        for kind, ending, text in (("images", "jpg", None), ("labels", "txt", "x"))
    }
    fill(folder, files)
    for place in (folder, folder / "images"):
        with pytest.raises(DataError, match="splits .*images/train"):
            open_source(config(tmp_path, place))
    found = pairs(tmp_path, folder / "images/train")
    assert found == {f"images/train/{n}.jpg": (f"train {n}",) for n in range(2)}


def test_a_picture_without_its_text_is_one_bad_sample(tmp_path, folder):
    fill(folder, {"a.jpg": None, "b.jpg": None, "c.jpg": None, "a.txt": "one\ntwo\n", "c.txt": ""})
    source = open_source(config(tmp_path, folder))
    assert source[0].captions == ("one", "two")
    for index, says in ((1, r"none in a file called b\.txt"), (2, "no caption")):
        with pytest.raises(DataError, match=says):
            source[index]
    (folder / "a.txt").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.txt isn't UTF-8"):
        open_source(config(tmp_path, folder))
    (folder / "a.txt").write_bytes("Größe".encode("utf-16"))
    assert open_source(config(tmp_path, folder))[0].captions == ("Größe",)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.jpg": None, "b.jpg": None}, "no captions .* its pictures lie in no sub-folders"),
        (
            {"a.jpg": None, "annotations.csv": "foto,wort\na.jpg,a cat\n"},
            "in no sub-folders; .*annotations.csv has no picture column, only foto, wort: name one",
        ),
        ({"images/a.jpg": None}, "images says nothing of what is on the pictures"),
        (
            {"Images/a.jpg": None, "captions.xlsx": "x"},
            r"captions\.xlsx is of no kind that is read",
        ),
        (
            {"Images/a.jpg": None, "captions.csv": "x,y\n1,2\n"},
            "captions.csv has no picture column, only x, y: name one in --data.image-key",
        ),
        (
            {"Images/a.jpg": None, "captions.csv": "image,caption\nz.jpg,a cat\n"},
            "the pictures that .*captions.csv names aren't in",
        ),
        (
            {"00000/a.jpg": None, "00001/b.jpg": None},
            "00000, 00001 look like the numbers of shards",
        ),
        ({"train/cat/a.jpg": None, "val/cat/b.jpg": None}, r"splits \(train, val\)"),
        ({"Training/a.jpg": None, "Validation/b.jpg": None, "Test/c.jpg": None}, "splits"),
        ({"train_images/a.jpg": None, "test_images/b.jpg": None}, "splits"),
        (
            {"cat/train/a.jpg": None, "dog/train/b.jpg": None, "cat/test/c.jpg": None},
            "splits .*give each a folder of its own",
        ),
        (
            {"x.heic": "x", "y.HEIC": "x", "z.cr2": "x"},
            r"no pictures, but 3 files of formats that aren't read \(.heic 2, .cr2 1\)",
        ),
        ({"train/0.tar": "x"}, r"shards in folders; give .*/set/train/\*\.tar"),
        ({"a.csv": "x", "b.csv": "x"}, "2 tables .*a.csv, b.csv"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_no_training_data_is_refused_in_one_sentence(tmp_path, folder, files, says):
    with pytest.raises(DataError, match=says) as caught:
        open_source(config(tmp_path, fill(folder, files)))
    assert "\n" not in str(caught.value)


def test_one_split_is_opened_and_one_wrapping_folder(tmp_path, folder):
    fill(folder, {"train/cat/a.jpg": None, "train/dog/b.jpg": None})
    source = open_source(config(tmp_path, folder))
    assert class_names_of(source) == ("cat", "dog")
    wrapped = fill(tmp_path / "set2", {"images/cat/a.jpg": None, "images/dog/b.jpg": None})
    assert class_names_of(open_source(config(tmp_path, wrapped))) == ("cat", "dog")


def test_a_train_among_vehicles_is_a_class(tmp_path, folder):
    fill(folder, {f"{name}/{n}.jpg": None for name in ("bus", "car", "train") for n in range(2)})
    assert class_names_of(open_source(config(tmp_path, folder))) == ("bus", "car", "train")


def test_one_caption_for_all_is_remarked_on(tmp_path, folder):
    fill(folder, {"cats/a.jpg": None, "cats/b.jpg": None})
    with pytest.warns(DataWarning, match="same caption, 'a photo of a cats.'"):
        open_source(config(tmp_path, folder))
    table = tmp_path / "t.csv"
    table.write_text("image,caption\n" + "set/cats/a.jpg,my cat\n" * 3)
    with pytest.warns(DataWarning, match="same caption, 'my cat'"):
        open_source(config(tmp_path, table))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"1/a.jpg": None, "2/b.jpg": None}, "its classes are called 1, 2; .*--data.class-names"),
        ({"c1/a.jpg": None, "c2/b.jpg": None}, "its classes are called c1, c2"),
        (
            {"cat/a.jpg": None, "dog/b.jpg": None, "dog/c.heic": "x"},
            r"1 file of formats that aren't read \(.heic 1\)",
        ),
        ({"cat/a.jpg": None, "dog/b.jpg": None, "c.jpg": None}, "1 pictures that lie in no class"),
        ({"cat/a.jpg": None, "dog/b.jpg": None, "fox/c.txt": "x"}, "fox without pictures"),
        (
            {"cat/a.jpg": None, "dog/b.jpg": None, "labels.csv": "image,label\ncat/a.jpg,1\n"},
            "labels.csv isn't used",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_may_be_meant_otherwise_is_said(tmp_path, folder, files, says):
    with pytest.warns(DataWarning, match=says):
        source = open_source(config(tmp_path, fill(folder, files)))
    assert len(source) == 2


def test_evaluation_sees_the_classes_of_pictures_that_have_texts_too(tmp_path, folder):
    fill(folder, {"cat/a.jpg": None, "cat/a.txt": "my cat", "dog/b.jpg": None})
    source = open_source(config(tmp_path, folder), captions=False)
    assert source.class_names == ("cat", "dog")
    assert [source[n].label for n in range(2)] == [0, 1]
    assert source[0].captions == ("my cat",)


@pytest.mark.parametrize("ending", ["avif", "jp2", "jfif", "mpo", "pnm", "pbm", "qoi", "apng"])
def test_formats_that_pillow_reads_are_pictures(tmp_path, folder, ending):
    from PIL import Image

    from diptych.inputs import decode

    kinds = {"jfif": "JPEG", "pnm": "PPM", "pbm": "PPM", "jp2": "JPEG2000", "apng": "PNG"}
    for name, grey in (("cat", 0), ("dog", 255)):
        (folder / name).mkdir(parents=True)
        image = Image.new(
            "1" if ending == "pbm" else "RGB",
            (16, 16),
            grey and (1 if ending == "pbm" else (255,) * 3),
        )
        image.save(folder / name / f"x.{ending}", kinds.get(ending, ending.upper()))
    source = open_source(config(tmp_path, folder))
    assert [int(decode(source[n].image).float().mean().round()) for n in range(2)] == [0, 255]


def test_links_to_folders_are_followed_once(tmp_path, folder):
    fill(folder, {"cat/a.jpg": None})
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs/b.jpg").write_bytes(picture(9))
    (folder / "dog").symlink_to(tmp_path / "dogs")
    (folder / "cat/again").symlink_to(folder)
    source = open_source(config(tmp_path, folder))
    assert [source[n].key for n in range(len(source))] == ["cat/a.jpg", "dog/b.jpg"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "karpathy"])
def test_rows_of_other_splits_are_not_trained_on(tmp_path, kind):
    splits = ["train", "test", "train", "val", "restval"]
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    if kind == "csv":
        rows = [f"{number}.jpg,caption {number},{split}" for number, split in enumerate(splits)]
        path = tmp_path / "pairs.csv"
        path.write_text("\n".join(["image,caption,split", *rows]))
    elif kind == "jsonl":
        path = tmp_path / "pairs.jsonl"
        items = [
            {"image": f"{number}.jpg", "caption": f"caption {number}", "split": split}
            for number, split in enumerate(splits)
        ]
        path.write_text("\n".join(map(json.dumps, items)))
    else:
        path = tmp_path / "dataset.json"
        images = [
            {"filename": f"{n}.jpg", "sentences": [{"raw": f"caption {n}"}], "split": split}
            for n, split in enumerate(splits)
        ]
        path.write_text(json.dumps({"images": images}))
    with pytest.warns(DataWarning, match=r"the 2 of 'train' are taken, 3 others left out"):
        source = open_source(config(tmp_path, path), split="train")
    assert [source[row].captions for row in range(len(source))] == [("caption 0",), ("caption 2",)]
