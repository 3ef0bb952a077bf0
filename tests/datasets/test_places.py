"""Folders are found in the spellings that people have, and what isn't found is said with the way
out."""

import pytest
from PIL import Image

from diptych import datasets
from diptych.datasets.class_names import prompts
from diptych.errors import DataError

IDS = tuple(prompts("imagenet1k").classes)[:4]


def write(place, labels=IDS):
    for number, label in enumerate(labels):
        (place / label).mkdir(parents=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(place / label / "0.JPEG")
    return place


def opened(name, root):
    return datasets.open_set(name, root, sizes="warn", cache=str(root / "cache"))


@pytest.mark.parametrize(
    "place",
    [
        *("imagenet1k/val", "imagenet/val", "ImageNet/val", "imagenet-1k/validation"),
        *("ILSVRC2012/val", "IN-1K/val", "IN1K/Val", "ILSVRC/Data/CLS-LOC/val", "ImageNet1K"),
        *("imagenet/images/val", "imagenet-ilsvrc2012/test"),
    ],
)
def test_imagenet_in_any_spelling(tmp_path, place):
    write(tmp_path / place)
    found = opened("imagenet1k", tmp_path)
    assert [found.source[index].label for index in range(4)] == [0, 1, 2, 3]
    assert found.class_names[:2] == ("tench", "goldfish")


@pytest.mark.parametrize("root", ["IN-1K", "IN-1K/val"])
def test_the_data_root_may_point_right_at_it(tmp_path, monkeypatch, root):
    write(tmp_path / "IN-1K" / "val")
    assert len(opened("imagenet1k", tmp_path / root).source) == 4
    monkeypatch.chdir(tmp_path / root)
    found = datasets.open_set("imagenet1k", ".", sizes="warn", cache=str(tmp_path / "cache"))
    assert len(found.source) == 4


@pytest.mark.parametrize(
    ("name", "place", "labels"),
    [
        ("imagenet-a", "imagenet-adversarial/imagenet-a", ("n01498041", "n01531178")),
        ("imagenet-r", "ImageNet-R", ("n01443537", "n01484850")),
        ("imagenet-v2", "imagenetv2-matched-frequency-format-val", ("0", "1", "10", "999")),
        ("imagenet-sketch", "ImageNet-Sketch/images", IDS),
        ("cifar10", "CIFAR-10/test", ("cat", "dog")),
        ("dtd", "DTD/test", ("banded", "bubbly")),
        ("resisc45", "NWPU-RESISC45/test", ("airplane", "bridge")),
        ("pets", "Oxford_Pets/test", ("Abyssinian", "Beagle")),
    ],
)
def test_other_sets_in_other_spellings(tmp_path, name, place, labels):
    write(tmp_path / place, labels)
    found = opened(name, tmp_path)
    known = prompts(datasets.get(name).prompts or name)
    assert len(found.source) == len(labels)
    expected = list(known.classes) if set(labels) <= set(known.classes) else list(known.names)
    if name == "imagenet-v2":
        expected = [str(number) for number in range(1000)]
    assert [expected[found.source[index].label] for index in range(len(labels))] == list(labels)


def test_pictures_without_labels_in_test_do_not_hide_val(tmp_path):
    (tmp_path / "imagenet" / "test").mkdir(parents=True)
    (tmp_path / "imagenet" / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(b"")
    write(tmp_path / "imagenet" / "val")
    assert len(opened("imagenet1k", tmp_path).source) == 4


def test_another_set_is_never_taken_for_the_one_that_was_asked_for(tmp_path):
    write(tmp_path / "imagenet-a")
    write(tmp_path / "imagenet1k-old" / "val")
    with pytest.raises(DataError, match=r"ln -s FOLDER .*imagenet1k\)"):
        opened("imagenet1k", tmp_path)


def test_a_folder_that_holds_nothing_readable_is_named(tmp_path):
    (tmp_path / "ILSVRC2012").mkdir()
    with pytest.raises(DataError, match=r"nothing in .*ILSVRC2012 can be read as its test split"):
        opened("imagenet1k", tmp_path)


def flat(place):
    """The publisher's pictures 1 to 3, of the classes goldfish, tench and goldfish."""
    place.mkdir(parents=True)
    for number in (1, 2, 3):
        picture = Image.new("RGB", (4, 4), (number, 0, 0))
        picture.save(place / f"ILSVRC2012_val_{number:08d}.JPEG", "jpeg")
    return place


def test_pictures_under_the_publishers_names_are_joined_with_kaggles_file(tmp_path):
    flat(tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000003,n01443537 85 1 499 272 n01443537 1 2 3 4 \n"
        "ILSVRC2012_val_00000001,n01443537 85 1 499 272 \n"
        "ILSVRC2012_val_00000002,n01440764 0 0 9 9\n"
    )
    found = opened("imagenet1k", tmp_path)
    assert [found.source[index].label for index in range(3)] == [1, 0, 1]


def test_or_with_a_file_of_ids_in_order(tmp_path):
    place = flat(tmp_path / "ILSVRC2012" / "val")
    ids = place / "imagenet_2012_validation_synset_labels.txt"
    ids.write_text("n01443537\nn01440764\nn01443537\n")
    found = opened("imagenet1k", tmp_path)
    assert [found.source[index].label for index in range(3)] == [1, 0, 1]
    ids.write_text("n01443537\n")
    with pytest.raises(DataError, match="2 pictures, such as ILSVRC2012_val_00000002.JPEG"):
        opened("imagenet1k", tmp_path)


def test_without_their_classes_they_are_refused(tmp_path):
    flat(tmp_path / "ImageNet" / "val")
    with pytest.raises(DataError, match=r"without their classes: put LOC_val_solution.csv"):
        opened("imagenet1k", tmp_path)
