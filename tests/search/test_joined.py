"""Tables of what else is known of pictures."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from diptych.errors import ConfigError, DataError
from diptych.search import Condition, Index, Where, join, update
from tests import tiny
from tests.search.test_metadata import known


@pytest.fixture
def index(tmp_path):
    tiny.write_pictures(tmp_path / "photos", each=2)
    update(tmp_path / "x.index", tmp_path / "photos", tiny.encoder())
    return tmp_path / "x.index"


def years(index) -> list:
    return Index.open(index).metadata.column("year").to_pylist()


@pytest.mark.parametrize(
    "name",
    ["blue/0.png", "photos/blue/0.png", "./photos/blue/0.png", "photos\\blue\\0.png", "blue/0"],
)
def test_names_of_pictures(tmp_path, index, name):
    (tmp_path / "table.csv").write_text(f"year;File\n2020;{name}\n2021;1.png\n;x.png\n")
    joined = join(index, tmp_path / "table.csv")
    assert (joined.column, joined.columns) == ("File", ("year",))
    assert (joined.pictures, joined.unknown, joined.ambiguous) == (1, 1, 1)
    assert years(index) == [2020] + [None] * 7


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet", "tsv"])
def test_kinds_of_tables(tmp_path, index, kind):
    rows = [
        {"n": "red/0.png", "year": 2020, "kind": "x", "path": "elsewhere"},
        {"n": "red/0.png", "year": 3000, "kind": "second", "path": ""},
        {"n": "red/1.png", "year": 2021, "kind": "y", "path": ""},
    ]
    path = tmp_path / f"table.{kind}"
    if kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        lines = ["\t".join(map(str, row.values())) for row in rows]
        path.write_text("\n".join(["\t".join(rows[0]), *lines]))
    assert join(index, path, "n").pictures == 2
    assert years(index)[4:6] == [2020, 2021]
    found = Index.open(index)
    assert found.count(Where(conditions=(Condition.parse("kind=y"),))) == 1
    assert found.count(Where(conditions=(Condition.parse("path~red"),))) == 2


def test_what_was_known_of_others_stays(tmp_path, index):
    (tmp_path / "a.csv").write_text("file,year,day\nblue/0.png,2020,2020-05-01\nred/0.png,2021,\n")
    (tmp_path / "b.csv").write_text("file,year\nred/0.png,none\n")
    join(index, tmp_path / "a.csv")
    assert Index.open(index).metadata.kinds["day"] == "date"
    join(index, tmp_path / "b.csv")
    assert [years(index)[row] for row in (0, 4)] == ["2020", "none"]
    tiny.picture("red", 9).save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos/blue/0.png").rename(tmp_path / "photos/moved.png")
    update(index, tmp_path / "photos", tiny.encoder())
    assert known(index)["moved.png"]["year"] == "2020"
    assert known(index)["a.png"] == {"width": 40, "height": 30}


@pytest.mark.parametrize(
    ("text", "column", "error", "sentence"),
    [
        ("a,b\n1,2\n", "", ConfigError, "none of its columns names pictures, only a, b"),
        ("a,b\n1,2\n", "c", ConfigError, "it has no column c, only a, b; say which does"),
        ("file,b\nx.png,2\n", "", DataError, "names no picture of .* begins with x.png"),
    ],
)
def test_a_table_that_names_none_is_refused(tmp_path, index, text, column, error, sentence):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(error, match=sentence):
        join(index, tmp_path / "table.csv", column)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.csv", "there is no table"),
        ("a.xlsx", "is no table: its name"),
        ("bad.parquet", "can't be read"),
    ],
)
def test_what_is_no_table(tmp_path, index, name, sentence):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=sentence):
        join(index, tmp_path / name)
