"""A set of one's own in one line."""

import csv

import pytest

from diptych.batch import Sample
from diptych.data import write_shards
from diptych.errors import DataError
from diptych.evaluation import sets
from tests.evaluation.sets.miniature import png


def test_a_folder_per_class(tmp_path):
    for number, name in enumerate(("black_cat", "dog")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(png(number))
    found = sets.own(tmp_path, templates="a photo of a {}.")
    assert (found.class_names, found.templates) == (("black cat", "dog"), ("a photo of a {}.",))
    assert (found.entry.task, found.metric, found.split) == ("zero-shot", "top1", "test")
    assert [found.source[index].label for index in range(2)] == [0, 1]


def test_a_table_with_captions_is_searched(tmp_path):
    (tmp_path / "a.png").write_bytes(png(1))
    with (tmp_path / "mine.csv").open("w") as file:
        csv.writer(file).writerows([("filepath", "caption"), ("a.png", "a picture")])
    found = sets.own(tmp_path / "mine.csv")
    assert (found.entry.task, found.metric, found.entry.name) == ("retrieval", "mean_recall", "mine")
    assert found.source[0].captions == ("a picture",)
    assert found.class_names == found.templates == ()


def test_shards_with_several_labels(tmp_path):
    write_shards(tmp_path, [Sample(key="", image=png(1), labels=(0, 2))])
    found = sets.own(tmp_path, class_names=("a", "b", "c"), cache=str(tmp_path))
    assert (found.entry.task, found.source[0].labels) == ("multilabel", (0, 2))


def test_labels_without_names_and_pictures_without_anything_are_refused(tmp_path):
    write_shards(tmp_path / "labels", [Sample(key="", image=png(1), label=0)])
    write_shards(tmp_path / "nothing", [Sample(key="", image=png(1))])
    with pytest.raises(DataError, match="labels but no names of classes"):
        sets.own(tmp_path / "labels", cache=str(tmp_path))
    with pytest.raises(DataError, match="neither labels nor captions"):
        sets.own(tmp_path / "nothing", cache=str(tmp_path))
