"""Names of splits."""

import pytest

from diptych.data.splits import find_parts, split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("TRAINING", "train"),
        ("trainset", "train"),
        ("train2017", "train"),
        ("valid", "val"),
        ("validation", "val"),
        ("dev", "val"),
        ("Test-Set", "test"),
        ("testing", "test"),
        ("eval", "test"),
        ("bullet_train", ""),
        ("trains", ""),
        ("contest", ""),
        ("train_test", ""),
        ("zero", ""),
        ("00000", ""),
        ("", ""),
    ],
)
def test_what_a_name_means(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["test", "train"], {"test": ("test",), "train": ("train",)}),
        (["raw", "training", "val"], {"train": ("training",), "val": ("val",)}),
        (["seg_pred", "seg_test", "seg_train"], {"test": ("seg_test",), "train": ("seg_train",)}),
        (["test"], {"test": ("test",)}),
        (["train-0", "train-1"], {"train": ("train-0", "train-1")}),
        # Vehicles, not splits.
        (["bus", "car", "train"], {}),
        (["bullet train", "steam train"], {}),
        # Which of the two is meant nobody knows.
        (["a_test", "a_train", "b_test", "b_train"], {}),
        ([], {}),
    ],
)
def test_names_side_by_side_are_parts_or_classes(names, parts):
    assert find_parts(names) == parts
