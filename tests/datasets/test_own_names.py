"""Classes joined by name, and what is odd about them."""

import pytest

from diptych.datasets.own_names import align_given, join, places, read_names, remarks_on
from diptych.errors import DataError


def test_classes_of_parts_are_joined_by_name_in_any_spelling():
    train, test = ("Ice_Cream", "one", "zero"), ("ice cream", "two", "zero")
    united = join({"train": train, "test": test})
    assert united == ("Ice_Cream", "one", "two", "zero")
    assert places(train, united) == (0, 1, 3)
    assert places(test, united) == (0, 2, 3)


def test_lists_that_are_not_sorted_keep_the_order_in_which_they_come():
    assert join({"train": ("zero", "one"), "test": ("one", "two")}) == ("zero", "one", "two")


def test_equal_lists_keep_names_that_stand_twice_and_others_are_refused():
    twice = ("one", "one", "zero")
    assert join({"train": twice, "test": twice}) == twice
    assert places(twice, twice) == (0, 1, 2)
    with pytest.raises(DataError, match="in train two classes are called 'one'"):
        join({"train": twice, "test": ("one", "zero")})


@pytest.mark.parametrize(
    ("folders", "given", "found"),
    [
        # By name, whatever the order, and with classes that have no folder.
        (("one", "zero"), ("zero", "one"), (1, 0)),
        (("one", "zero"), ("Zero", "two", "One"), (2, 0)),
        (("ice_cream", "tea"), ("tea", "ice cream"), (1, 0)),
        # Folders sort as text: 10 stands before 2.
        (("0", "1", "10", "2"), tuple(f"name {n}" for n in range(11)), (0, 1, 10, 2)),
        (("00", "01"), ("plane", "car"), (0, 1)),
        # By place, where the words are others or the places agree.
        (("blue", "green"), ("navy", "lime"), (0, 1)),
        (("blue", "green"), ("blue", "lime"), (0, 1)),
    ],
)
def test_a_file_of_names_finds_its_folders(folders, given, found):
    assert align_given(folders, folders, given, "x")[0] == found


def test_names_taken_by_place_are_remarked():
    assert align_given(("blue", "green"), ("blue", "green"), ("navy", "lime"), "x")[1] == (
        "class names were taken in the order of the folders: blue = navy, green = lime",
    )


@pytest.mark.parametrize(
    ("folders", "given", "sentence"),
    [
        (("a", "b", "c"), ("x", "y"), r"x has 3 class folders \(a, b, c\), but there are 2 class"),
        # A shifted list: red's place is named yellow.
        (("red", "tea", "yellow"), ("tea", "coffee", "red"), "place of the folder 'red' is 'tea'"),
    ],
)
def test_names_that_fit_no_folders_are_refused(folders, given, sentence):
    with pytest.raises(DataError, match=sentence):
        align_given(folders, folders, given, "x")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("zero", "one", "One"), "2 classes are called 'one'"),
        (("zero", ""), "a class has an empty name"),
        (("0", "1"), r"called by numbers \(0, 1\): the model is asked for \"0\""),
        (("00000", "00001"), "called by numbers"),
        (("n12345678", "cat"), "called by WordNet ids"),
        (("cat",), r"a single class \(cat\)"),
        (("cat", "val"), "a class is called 'val'"),
    ],
)
def test_odd_names_are_remarked(names, said):
    [remark] = remarks_on(names, asked=True)
    assert said.replace("\\", "") in remark


def test_usual_names_are_not():
    assert remarks_on(("cat", "dog", "3 legs", "trainer"), asked=True) == ()
    assert remarks_on(("0", "1"), asked=False) == ()


def test_files_of_names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\ufeffcat\n\nsea_horse\n\n\n", encoding="utf-8")
    # An empty line in between doesn't move the classes behind it.
    assert read_names(path) == ("cat", "", "sea horse")
    (tmp_path / "names.json").write_text('{"0": "cat"}')
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "old.txt").write_bytes("Möwe".encode("cp1252"))
    for name in ("names.json", "empty.txt", "old.txt", "nowhere.txt"):
        with pytest.raises(DataError, match=name):
            read_names(tmp_path / name)
