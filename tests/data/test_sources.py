"""Folders, synthetic pictures, mixtures, and pictures without captions."""

from dataclasses import replace

import pytest

from diptych.data import class_names_of, open_source, write_shards
from diptych.errors import ConfigError, DataError
from diptych.inputs import decode
from tests.data.builders import config, picture, samples, write_tar


@pytest.fixture
def animals(tmp_path):
    for folder, names in {"wild_cat": "ba", "dog": "c", ".git": "x"}.items():
        (tmp_path / "animals" / folder / "deep").mkdir(parents=True)
        for name in names:
            (tmp_path / "animals" / folder / "deep" / f"{name}.JPG").write_bytes(picture(ord(name)))
        (tmp_path / "animals" / folder / "notes.txt").write_text("no picture")
    return tmp_path / "animals"


def test_class_folders_name_their_classes(tmp_path, animals):
    source = open_source(config(tmp_path, animals, templates=("a {}", "my {}")))
    assert class_names_of(source) == ("dog", "wild cat")
    assert [(source[n].key, source[n].label) for n in range(3)] == [
        ("dog/deep/c.JPG", 0),
        ("wild_cat/deep/a.JPG", 1),
        ("wild_cat/deep/b.JPG", 1),
    ]
    assert source[1].captions == ("a wild cat", "my wild cat")
    assert source[1].image == str(animals / "wild_cat/deep/a.JPG")


def test_class_folders_take_names_from_a_file(tmp_path, animals):
    names = tmp_path / "names.txt"
    names.write_text("hound\nlynx\n")
    source = open_source(config(tmp_path, animals, class_names=str(names)))
    assert source[2].captions == ("a photo of a lynx.",)
    names.write_text("hound\n")
    with pytest.raises(DataError, match=r"2 sub-folders, but --data\.class-names has 1 names"):
        open_source(config(tmp_path, animals, class_names=str(names)))
    with pytest.raises(DataError, match="can't be read"):
        open_source(config(tmp_path, animals, class_names=str(tmp_path / "nowhere.txt")))


def test_classes_of_joined_folders_align_by_name(tmp_path, animals):
    for name in ("ant", "dog", "fox"):
        (tmp_path / "more" / name).mkdir(parents=True)
        (tmp_path / "more" / name / "1.png").write_bytes(picture(3))
    source = open_source(config(tmp_path, f"{animals}::{tmp_path / 'more'}"))
    assert source.class_names == ("ant", "dog", "fox", "wild cat")
    for index in range(len(source)):
        label = source[index].label
        folder = source[index].key.partition("/")[0]
        assert label is not None
        assert source.class_names[label] == folder.replace("_", " ")


def test_a_folder_with_a_metadata_table_is_that_table(tmp_path, animals):
    (animals / "metadata.csv").write_text("file_name,text\ndog/deep/c.JPG,a good dog\n")
    source = open_source(config(tmp_path, animals))
    assert (len(source), source[0].captions) == (1, ("a good dog",))
    assert source[0].image == str(animals / "dog/deep/c.JPG")


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "class").mkdir()
    with pytest.raises(DataError, match="empty holds no pictures, tables or shards$"):
        open_source(config(tmp_path, tmp_path / "empty"))


def test_pictures_can_be_opened_without_captions(tmp_path):
    shard = write_tar(tmp_path / "a.tar", {"a.jpg": picture(1), "a.cls": b"7"})
    assert open_source(config(tmp_path, shard), captions=False)[0].label == 7
    with pytest.raises(DataError, match="no class names are known"):
        class_names_of(open_source(config(tmp_path, shard), captions=False))


def test_a_mixture_keeps_its_sources_apart_when_it_has_weights(tmp_path):
    write_shards(tmp_path / "a", samples(4))
    write_shards(tmp_path / "b", samples(6, start=100))
    path = f"{tmp_path / 'a'}::{tmp_path / 'b'}"
    plain = open_source(config(tmp_path, path))
    assert (len(plain), len(plain.streams)) == (10, 1)
    assert [plain[n].captions[0] for n in (0, 3, 4, 9)] == [
        "picture 0",
        "picture 3",
        "picture 100",
        "picture 105",
    ]
    assert plain.where(4)[0].endswith("b/000000.tar")
    weighted = open_source(config(tmp_path, path, weights=(3.0, 1.0)))
    assert [len(stream) for stream in weighted.streams] == [4, 6]
    assert weighted.weights == (3.0, 1.0)
    assert "weight 3" in weighted.describe()


def test_synthetic_pictures_are_the_same_every_time(tmp_path):
    first, second = (open_source(config(tmp_path, "synthetic:50")) for _ in range(2))
    assert [first[n] for n in range(5)] == [second[n] for n in range(5)]
    assert len({first[n].captions for n in range(50)}) > 10
    assert decode(first[0].image).shape == (3, 256, 256)
    with pytest.raises(ConfigError, match="takes a number"):
        open_source(config(tmp_path, "synthetic:many"))


@pytest.mark.parametrize(("consecutive", "said"), [(1, False), (8, True)])
def test_runs_of_samples_that_are_sorted_by_class_are_said(tmp_path, consecutive, said, recwarn):
    """Eight of each class: side by side, or in turn."""
    classes = [
        replace(each, label=n // 8, captions=("a", "b")) for n, each in enumerate(samples(64))
    ]
    write_shards(tmp_path / "sorted", classes)
    write_shards(tmp_path / "mixed", samples(64))
    open_source(config(tmp_path, tmp_path / "mixed", consecutive=consecutive))
    assert not [each for each in recwarn if "side by side" in str(each.message)]
    open_source(config(tmp_path, tmp_path / "sorted", consecutive=consecutive))
    found = [str(each.message) for each in recwarn if "side by side" in str(each.message)]
    assert bool(found) == said
    assert all("--data.consecutive 8" in each for each in found)
