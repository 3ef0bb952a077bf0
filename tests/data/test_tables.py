"""Every kind of table gives the same pairs; a bad row is one bad row."""

import json
import pickle

import pyarrow
import pytest
from pyarrow import parquet

from diptych.data import BadSample, open_source
from diptych.errors import ConfigError, DataError
from tests.data.builders import config, picture

CAPTIONS = ["a cat", 'one, "quoted"', "zwei\nZeilen", "猫 🐈", "123"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for n in range(len(CAPTIONS)):
        (tmp_path / "pictures" / f"{n}.jpg").write_bytes(picture(n))
    return tmp_path


def write(folder, kind, image="filepath", caption="title"):
    rows = [{image: f"pictures/{n}.jpg", caption: text} for n, text in enumerate(CAPTIONS)]
    path = folder / f"table.{kind}"
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        import csv

        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(
                file, [image, caption], delimiter="\t" if kind == "tsv" else ","
            )
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_gives_the_same_pairs(folder, kind):
    source = open_source(config(folder, write(folder, kind)))
    assert [source[n].captions for n in range(5)] == [(text,) for text in CAPTIONS]
    assert source[2].image == str(folder / "pictures" / "2.jpg")
    assert source[2].key == "pictures/2.jpg"
    assert source.where(2) == (str(folder / f"table.{kind}"), "2")
    assert pickle.loads(pickle.dumps(source))[3] == source[3]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_columns_are_chosen_by_name_and_a_missing_one_lists_what_there_is(folder, kind):
    path = write(folder, kind, image="bild", caption="worte")
    source = open_source(config(folder, path, image_key="foto;bild", caption_key="text;worte"))
    assert source[0].captions == ("a cat",)
    with pytest.raises(DataError, match=r"no picture column, only bild, worte.*--data\.image-key"):
        open_source(config(folder, path, caption_key="worte"))
    with pytest.raises(
        DataError, match=r"no caption column, only bild, worte.*--data\.caption-key"
    ):
        open_source(config(folder, path, image_key="bild"))


def test_parquet_holds_pictures_as_bytes_or_as_hugging_face_does(tmp_path):
    plain = [{"image": picture(n), "text": f"nr {n}"} for n in range(3)]
    feature = [
        {"image": {"bytes": picture(n), "path": None}, "text": [f"nr {n}", "other"]}
        for n in range(3)
    ]
    for name, rows in (("plain", plain), ("feature", feature)):
        parquet.write_table(
            pyarrow.Table.from_pylist(rows), tmp_path / f"{name}.parquet", row_group_size=2
        )
        source = open_source(config(tmp_path, tmp_path / f"{name}.parquet"))
        assert [source[n].image for n in range(3)] == [picture(n) for n in range(3)]
        assert source[2].captions[0] == "nr 2"
        assert source[2].key == "2"
    assert source[2].captions == ("nr 2", "other")
    (tmp_path / "file").write_text("")
    uncached = open_source(config(tmp_path / "file", tmp_path / "plain.parquet"))
    assert uncached[1].image == picture(1)


def test_several_files_are_one_table(tmp_path):
    for part in range(2):
        rows = [{"image": picture(n), "text": f"nr {part}{n}"} for n in range(3)]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"part-{part}.parquet")
    source = open_source(config(tmp_path, tmp_path / "part-{0..1}.parquet"))
    assert [source[n].captions[0] for n in (0, 2, 3, 5)] == ["nr 00", "nr 02", "nr 10", "nr 12"]


def test_labels_take_the_place_of_captions(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    path = tmp_path / "t.csv"
    path.write_text("image,label\na.jpg,1\nb.jpg,cat\nc.jpg,9\nd.jpg,-1\n")
    for name in "abcd":
        (tmp_path / f"{name}.jpg").write_bytes(picture(1))
    source = open_source(
        config(tmp_path, path, class_names=str(tmp_path / "names.txt"), templates=("a {}",))
    )
    assert [(source[n].label, source[n].captions) for n in range(2)] == [
        (1, ("a dog",)),
        (0, ("a cat",)),
    ]
    with pytest.raises(DataError, match="class 9 lies outside the 2 names"):
        source[2]
    with pytest.raises(DataError, match="class -1 is none: classes are counted from 0"):
        source[3]


def test_a_bad_row_is_one_bad_row(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(
        '{"image": "a.jpg", "text": "a"}\n\n{"image": \n[1]\n{"text": "b"}\n'
        '{"image": "c.jpg", "text": "c"}'
    )
    for name in "ac":
        (tmp_path / f"{name}.jpg").write_bytes(picture(1))
    source = open_source(config(tmp_path, path))
    assert len(source) == 5
    assert (source[0].captions, source[4].captions) == (("a",), ("c",))
    for index, says in (
        (1, "can't be read as JSON"),
        (2, "no JSON object"),
        (3, "no picture in the column"),
    ):
        with pytest.raises(DataError, match=says):
            source[index]


def test_rows_of_another_length_are_left_out_of_a_csv_and_each_is_listed(folder):
    path = folder / "t.csv"
    path.write_text("image,text\npictures/0.jpg,a\n\nb.jpg,b,extra\npictures/2.jpg,c\nx\n")
    source = open_source(config(folder, path, max_bad_share=0.02))
    assert [source[n].captions[0] for n in range(len(source))] == ["a", "c"]
    assert source.bad_samples == (
        BadSample(str(path), "line 4", "3 fields where the header has 2: 'b.jpg,b,extra'"),
        BadSample(str(path), "line 6", "1 fields where the header has 2: 'x'"),
    )
    with pytest.raises(
        DataError, match=r"2 of 4 rows of .* more than --data.max-bad-share 0.01; the first: line 4"
    ):
        open_source(config(folder, path))


@pytest.mark.parametrize(
    ("name", "data"),
    [("t.csv", b""), ("t.parquet", b"PAR1 nonsense"), ("t.csv", b"a,b\n\xff\xfe,1")],
)
def test_a_table_that_cannot_be_read_is_one_sentence(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=name):
        open_source(config(tmp_path, tmp_path / name))


def test_lines_as_declip_has_them_with_their_own_root(folder, tmp_path):
    """`filename` starts from the root, whatever stands in front; `url` is not read; captions may be
    several."""
    rows = [
        {"filename": "/0.jpg", "url": "http://a/x.jpg", "caption": ["a cat", "the cat"]},
        {"filename": "1.jpg", "url": "http://a/y.jpg", "caption": "a dog"},
    ]
    path = tmp_path / "meta" / "yfcc15m_clean_open_data.json"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = open_source(config(folder, path, image_root=str(folder / "pictures")))
    assert [source[n].image for n in range(2)] == [
        str(folder / "pictures" / f"{n}.jpg") for n in range(2)
    ]
    assert [source[n].captions for n in range(2)] == [("a cat", "the cat"), ("a dog",)]
    assert source[0].meta["url"] == "http://a/x.jpg"
    beside = write(folder, "csv")
    both = open_source(config(folder, f"{path}::{beside}", image_root=f"{folder / 'pictures'}::"))
    assert [both[n].image for n in (1, 2)] == [
        str(folder / "pictures" / f"{n}.jpg") for n in (1, 0)
    ]
    with pytest.raises(
        ConfigError, match=r"the image root a::b::c must be one folder, or one for each of 2"
    ):
        config(folder, f"{path}::{beside}", image_root="a::b::c")
