"""Among which pictures is looked."""

import os

import numpy as np
import pyarrow
import pytest
import torch

from diptych.errors import ConfigError, UnknownNameError
from diptych.search import Condition, Index, Where
from diptych.search.columns import write_table
from diptych.search.meta import metadata_path
from tests.search.test_index import random, vector_index

COLUMNS = {
    "year": [2019, 2020, None, 2021],
    "camera": ["Canon EOS", "canon 5D", None, "Nikon [x]"],
    "score": ["1", "10", "9", "none"],
    "day": ["2020-01-01", "2020-05-02", "2020-05-31", None],
    "indoors": [True, False, None, True],
    "taken": np.array(
        ["2019-01-01", "2020-05-02T10:00", "2020-05-31T23:00", "2021-01-01"], "M8[s]"
    ),
    "width": [10, 20, 30, 40],
    "height": [10, 10, 10, 10],
    "uid": [2**60 + 1, 2**60 + 2, None, -(2**60)],
    "unknown": [None] * 4,
}


@pytest.fixture
def index(tmp_path) -> Index:
    made = vector_index(tmp_path / "x.index", random(4, 8))
    write_table(metadata_path(made.folder, made._store.meta), pyarrow.table(COLUMNS))
    return made


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("year>=2020", [1, 3]),
        ("year = 2020", [1]),
        ("year!=2020", [0, 3]),
        ("camera=canon*", [0, 1]),
        ("camera=CANON EOS", [0]),
        ("camera!=canon*", [3]),
        ("camera=nikon [x]", [3]),
        ("camera~ON", [0, 1, 3]),
        ("score>=9", [1, 2]),
        ("day>2020-05-02", [2]),
        ("day<=2020-05-02", [0, 1]),
        ("indoors=yes", [0, 3]),
        ("indoors!=true", [1]),
        ("date=2020-05", [1, 2]),
        ("date>2020", [3]),
        ("date<=2020", [0, 1, 2]),
        ("date<2020-05-31T23:00", [0, 1]),
        ("date>=2020-05-02 10:00", [1, 2, 3]),
        ("pixels>200", [2, 3]),
        ("bytes=1", [0, 1, 2, 3]),
        ("uid=1152921504606846978", [1]),
        ("uid>1152921504606846976", [0, 1]),
        ("uid<0.5", [3]),
        ("uid!=99999999999999999999", [0, 1, 3]),
        ("unknown=1", []),
        ("path=/p/1.*", [1]),
    ],
)
def test_conditions(index, condition, rows):
    where = Where(conditions=(Condition.parse(condition),))
    assert np.flatnonzero(where.rows(index.metadata)).tolist() == rows
    assert index.count(where) == len(rows)


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("year", "is no condition"),
        ("=3", "is no condition"),
        ("year=", "is no condition"),
        ("year>=abc", "the column year is of numbers; write a condition such as year>=2020"),
        ("year~20", "is of numbers"),
        ("date=may", "is of dates"),
        ("date=2020-13", "2020-13 is no date"),
        ("indoors=maybe", "is of yes and no"),
        ("indoors>yes", "is of yes and no"),
    ],
)
def test_what_is_no_condition_is_said(index, condition, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Condition.parse(condition).rows(index.metadata)


def test_a_relation_that_isnt_there():
    with pytest.raises(ConfigError, match="'like' is no relation"):
        Condition("camera", "like", "x")


def test_a_column_that_isnt_there(index):
    with pytest.raises(UnknownNameError, match="did you mean 'camera'"):
        Condition.parse("camra=x").rows(index.metadata)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("1.5MB", ("bytes", 1_500_000)),
        ("200 kb", ("bytes", 200_000)),
        ("2MP", ("pixels", 2_000_000)),
    ],
)
def test_sizes(size, expected):
    condition = Condition.of_size(">=", size)
    assert (condition.column, int(condition.value)) == expected
    for wrong in ("large", "MB", "-1MB", "1TB", "1"):
        with pytest.raises(ConfigError, match="is no size"):
            Condition.of_size(">=", wrong)


@pytest.mark.parametrize(
    ("folders", "rows"),
    [
        (["/p"], [0, 1, 2, 3]),
        (["/p/"], [0, 1, 2, 3]),
        (["/q", "/p/2.jpg"], [2]),
        (["p"], []),
        (["/p/[0-3].jpg"], []),
        (["[0-3]*"], []),
        (["/p/?.jpg"], [0, 1, 2, 3]),
        (["3*"], [3]),
        (["/p/1"], []),
        (["/p/../p/1.jpg"], [1]),
    ],
)
def test_folders(index, folders, rows):
    where = Where(folders=tuple(folders))
    assert np.flatnonzero(where.rows(index.metadata)).tolist() == rows


def test_only_what_fulfils_all_of_it_is_found(index):
    query = index.vectors[0].clone()
    where = Where(folders=("/p",), conditions=(Condition("year", ">=", "2020"),))
    hits = index.search(query, where=where)
    assert {hit.row for hit in hits} == {1, 3}
    scores = (index.vectors @ query)[[1, 3]]
    assert hits[0].score == pytest.approx(float(scores.max()), abs=1e-6)
    assert index.search_many(torch.eye(8)[:2], top=1, where=where)[1][0].row in (1, 3)
    nothing = Where(conditions=(Condition("year", ">", "3000"),))
    assert index.search(query, where=nothing) == []


def test_nothing_is_looked_for_on_the_disk(index, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError

    metadata = index.metadata
    assert metadata.table is not None
    for name in ("stat", "lstat", "open", "listdir", "scandir"):
        monkeypatch.setattr(os, name, refuse)
    Where(folders=("/etc", "*passwd*")).rows(metadata)
