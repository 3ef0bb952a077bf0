"""What a user asks for, as tasks."""

import pytest

from diptych import datasets
from diptych.errors import ConfigError, DataError, UnknownNameError
from diptych.evaluation.tasks import open_splits, parse_tasks
from tests import tiny


def names(words):
    return [task.name for task in parse_tasks(words)]


def test_groups_and_patterns_stand_for_their_sets_each_once():
    assert names(["vtab+", "imagenet1k"]) == [entry.name for entry in datasets.select(("vtab+",))]
    found = names("linear/cifar*, fewshot/vtab/dtd")
    assert found == ["linear/cifar10", "linear/cifar100", "fewshot/dtd"]


@pytest.mark.parametrize(
    "path", ["photos/", "./photos", "a/{00..09}.tar", "pairs.csv", "synthetic:16", "linear/photos/"]
)
def test_what_looks_like_data_is_the_users_own(path):
    assert names([path]) == [path]


def test_a_folder_that_exists_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert names("photos") == ["photos"]


@pytest.mark.parametrize("word", ["cifra10", "linear/cifra10", "vtab/cifra10"])
def test_a_typo_gets_a_near_miss_before_anything_is_computed(word):
    with pytest.raises(UnknownNameError, match="did you mean 'cifar10'"):
        parse_tasks([word])


def test_nothing_is_no_request():
    with pytest.raises(ConfigError, match="at least one task"):
        parse_tasks([" , "])


def test_own_sets_have_splits_where_there_are_such_folders(tmp_path):
    tiny.write_pictures(tmp_path / "data" / "train", each=3)
    for path in tiny.write_pictures(tmp_path / "data" / "test", each=1):
        tiny.picture(path.parent.name, seed=9).save(path)
    [task] = parse_tasks(f"linear/{tmp_path / 'data'}")
    sizes = {split: len(found.source) for split, found in open_splits(task).items()}
    assert sizes == {"test": 4, "train": 12}
    [task] = parse_tasks(str(tmp_path / "data"))
    [dataset] = open_splits(task, templates=("a {}.",)).values()
    assert (len(dataset.source), dataset.templates) == (4, ("a {}.",))
    [task] = parse_tasks(str(tmp_path / "nothing"))
    with pytest.raises(DataError):
        open_splits(task)
