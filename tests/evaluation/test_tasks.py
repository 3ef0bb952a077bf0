"""What a user asks for, as tasks."""

import pytest

from diptych import datasets
from diptych.errors import ConfigError, DataError, UnknownNameError
from diptych.evaluation.tasks import Requests, expand
from tests import tiny


def test_groups_and_patterns_stand_for_their_sets_each_once():
    assert expand(["vtab+", "imagenet1k"]) == tuple(
        entry.name for entry in datasets.select(("vtab+",))
    )
    assert expand(["linear/cifar*, fewshot/vtab/dtd"]) == (
        "linear/cifar10",
        "linear/cifar100",
        "fewshot/dtd",
    )


@pytest.mark.parametrize(
    "path", ["photos/", "./photos", "a/{00..09}.tar", "pairs.csv", "synthetic:16", "linear/photos/"]
)
def test_what_looks_like_data_is_the_users_own(path):
    assert expand([path]) == (path,)


def test_a_folder_that_exists_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert expand(["photos"]) == ("photos",)


@pytest.mark.parametrize("word", ["cifra10", "linear/cifra10", "vtab/cifra10"])
def test_a_typo_gets_a_near_miss_before_anything_is_computed(word):
    with pytest.raises(UnknownNameError, match="did you mean 'cifar10'"):
        expand([word])


def test_nothing_is_no_request():
    with pytest.raises(ConfigError, match="at least one task"):
        expand([" , "])


def test_own_sets_have_splits_where_there_are_such_folders(tmp_path):
    tiny.write_pictures(tmp_path / "data" / "train", each=3)
    tiny.write_pictures(tmp_path / "data" / "test", each=1)
    task = Requests().open(f"linear/{tmp_path / 'data'}")
    assert {split: len(subject.source) for split, subject in task.subjects.items()} == {
        "test": 4,
        "train": 12,
    }
    [subject] = Requests(templates=("a {}.",)).open(str(tmp_path / "data")).subjects.values()
    assert (len(subject.source), subject.templates) == (4, ("a {}.",))
    with pytest.raises(DataError):
        Requests().open(str(tmp_path / "nothing"))
