"""ImageNet's WordNet ids are never put into a caption (issue: "a photo of a n01440764.")."""

import io
import tarfile

import pytest
from PIL import Image

from diptych.config import DataConfig
from diptych.data import open_source, read_class_names
from diptych.data.wordnet import imagenet_names, place_of_id, refuse_ids, spoken_names
from diptych.errors import DataError

IDS = ("n01440764", "n02979186", "n03773504", "n04008634")
NAMES = ("tench", "cassette player", "missile", "missile")


def folders(root, names):
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / name / "0.png")
    return root


def captions(path, **settings):
    source = open_source(DataConfig(path=str(path), **settings))
    return [source[index].captions[0] for index in range(len(source))]


def test_folders_of_ids_are_trained_on_imagenets_names(tmp_path):
    assert captions(folders(tmp_path, IDS)) == [f"a photo of a {name}." for name in NAMES]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("n02085620-Chihuahua", "Chihuahua"),  # Stanford Dogs
        ("n02107142 Doberman", "Dobermann"),  # ImageNet's own spelling counts
        ("n99999999_two_words", "two words"),
        ("n0144076", "n0144076"),  # seven digits are no id
        ("north_pole", "north pole"),
    ],
)
def test_spoken_names(folder, name):
    assert spoken_names([folder, "other"]) == (name, "other")


def test_a_thousand_numbers_are_imagenets_and_ten_are_digits():
    shuffled = sorted(map(str, range(1000)))  # as folders sort: 0, 1, 10, 100, 101, …
    names = spoken_names(shuffled)
    assert (names[0], names[2], names[-1]) == ("tench", "brambling", "toilet paper")
    assert spoken_names(list("0123456789")) == tuple("0123456789")


def test_ids_of_other_classes_are_refused_in_training_and_fine_without_captions(tmp_path):
    place = folders(tmp_path, ("n01440764", "n12345678"))
    with pytest.raises(DataError, match=r"1 of its 2 classes .*n12345678.*\(--data\.class-names"):
        open_source(DataConfig(path=str(place)))
    assert len(open_source(DataConfig(path=str(place)), captions=False)) == 2
    (tmp_path.parent / "names.txt").write_text("fish\nsomething else\n")
    named = captions(place, class_names=str(tmp_path.parent / "names.txt"))
    assert named == ["a photo of a fish.", "a photo of a something else."]


def test_files_of_ids_are_class_names(tmp_path):
    (tmp_path / "synsets.txt").write_text("n01440764 tench, Tinca tinca\nn02979186\n")
    assert read_class_names(tmp_path / "synsets.txt") == ("tench", "cassette player")


def test_labels_that_are_ids_find_their_class(tmp_path):
    (tmp_path / "names.txt").write_text("cassette player\ntench\n")
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "png")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for ending, data in (("png", picture.getvalue()), ("cls", b"n01440764")):
            member = tarfile.TarInfo(f"0.{ending}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    names = str(tmp_path / "names.txt")
    assert captions(tmp_path / "a.tar", class_names=names) == ["a photo of a tench."]


def test_names_that_stand_twice_are_found_by_id_in_imagenets_own_list_alone():
    everything = tuple(imagenet_names().values())
    assert [place_of_id(each, everything) for each in IDS] == [0, 482, 657, 744]
    assert place_of_id("n04008634", ("missile", "tench", "missile")) is None
    assert place_of_id("n99999999", everything) is None


def test_only_bare_ids_are_refused():
    refuse_ids(("tench", "nurse", "n1", "n12345678 with words"), "x")
    with pytest.raises(DataError, match=r"x: 4 of its 4 classes have .*n4000000., …\)"):
        refuse_ids([f"n4000000{number}" for number in range(4)], "x")
