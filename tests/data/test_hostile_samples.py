"""Samples that were made to do harm are bad samples: refused one at a time, in little memory."""

import io
import json
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from diptych.data import open_source, parquet_rows
from diptych.data.files import LONGEST_TEXT
from diptych.errors import DataError
from diptych.inputs import decode
from tests.data.builders import config, picture, write_tar

DEEP = b"[" * 100_000
NPY = b"\x93NUMPY\x01\x00"


def npy(header: bytes) -> bytes:
    return NPY + len(header).to_bytes(2, "little") + header


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


MEMBERS = {
    "deep json": ("json", DEEP),
    "deep object": ("json", b'{"a":' * 100_000),
    "digits": ("json", b'{"caption": ' + b"9" * 100_000 + b"}"),
    "infinite": ("json", b'{"caption": 1e999}'),
    "NaN": ("json", b'{"caption": NaN}'),
    "long json": ("json", b" " * (LONGEST_TEXT + 1)),
    "utf-16 json": ("json", '{"caption"'.encode("utf-16")),
    "long text": ("txt", b"a" * (LONGEST_TEXT + 1)),
    "long class": ("cls", b"1" * 1_000_000),
    "large class": ("cls", b"1" + b"0" * 400),
    "surrogates in a class": ("cls", b"\xed\xa0\x80"),
    "npy of 10^12": ("npy", npy(b"{'descr':'<f8','fortran_order':False,'shape':(10**12,)}")),
    "npy of a million millions": (
        "npy",
        npy(b"{'descr':'<f8','fortran_order':False,'shape':(1000000000000,)}\n"),
    ),
    "npy without an end": ("npy", npy(b"{'descr': '''")),
    "npy of another version": ("npy", b"\x93NUMPY\x09\x00" + bytes(100)),
    "npy of objects": ("npy", saved(np.array([{}, None], object))),
    "npy of fields": ("npy", saved(np.zeros(2, [("a", "f4")]))),
    "npy of texts": ("npy", saved(np.array(["a"]))),
    "deep npy": ("npy", npy(b"(" * 9000)),
    "zip": ("npy", b"PK\x03\x04junk"),
    "pickle": ("npy", b"\x80\x04K\x01."),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_refused_in_a_sentence_and_the_next_sample_is_read(tmp_path, name):
    ending, data = MEMBERS[name]
    files = [("a.jpg", picture(1)), (f"a.{ending}", data), ("b.jpg", picture(2)), ("b.txt", b"b")]
    source = open_source(config(tmp_path, write_tar(tmp_path / "a.tar", files)))
    with pytest.raises(DataError) as caught:
        source[0]
    assert len(str(caught.value)) < 500
    assert source[1].captions == ("b",)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_that_isnt_needed_spoils_no_sample(tmp_path, name):
    ending, data = MEMBERS[name]
    ending = "json" if ending == "txt" else ending
    files = [("a.jpg", picture(1)), (f"a.{ending}", data), ("a.txt", b"a cat")]
    source = open_source(config(tmp_path, write_tar(tmp_path / "a.tar", files)))
    assert source[0].captions == ("a cat",)
    assert source[0].labels == ()


def test_a_picture_that_is_larger_than_any_is_not_read(tmp_path):
    path = write_tar(tmp_path / "b.tar", [("b.jpg", picture(2)), ("b.txt", b"b")])
    member = tarfile.TarInfo("a.jpg")
    member.size = 1 << 30
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(member.tobuf())
        file.truncate(512 + member.size)  # takes no place on the disk
        file.seek(0, 2)
        file.write(path.read_bytes())
    source = open_source(config(tmp_path, tmp_path / "a.tar"), captions=False)
    with pytest.raises(DataError, match=r"1,073,741,824 bytes .* more than 800,000,000"):
        source[0]
    assert source[1].captions == ("b",)


LINES = {
    "deep": b'{"filepath":' + DEEP,
    "digits": b'{"filepath": "a.jpg", "caption": ' + b"9" * 9999 + b"}",
    "long": b'{"filepath": "' + b"a" * LONGEST_TEXT + b'"}',
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("name", LINES)
def test_a_line_of_json_is_one_bad_sample_wherever_it_stands(tmp_path, name, place):
    (tmp_path / "a.jpg").write_bytes(picture(1))
    lines = [json.dumps({"filepath": "a.jpg", "caption": f"{n}"}).encode() for n in range(3)]
    lines.insert(place, LINES[name])
    path = tmp_path / "table.jsonl"
    path.write_bytes(b"\n".join(lines))
    source = open_source(config(tmp_path, path))
    assert len(source) == 4
    with pytest.raises(DataError):
        source[place]
    assert [source[n].captions[0] for n in range(4) if n != place] == ["0", "1", "2"]


@pytest.mark.parametrize("data", [DEEP, b'[{"a":' + DEEP, b'{"images":' + DEEP])
def test_a_whole_file_of_json_is_refused_in_a_sentence(tmp_path, data):
    path = tmp_path / "table.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match="nested too deeply; an object a line"):
        open_source(config(tmp_path, path))


def test_a_long_line_of_a_csv_is_one_bad_sample(tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture(1))
    long = b"a.jpg," + b"x" * LONGEST_TEXT
    path = tmp_path / "table.csv"
    path.write_bytes(b"filepath,caption\na.jpg,one\n" + long + b'\na.jpg,"two\n')
    source = open_source(config(tmp_path, path))
    assert [source[0].captions, source[2].captions] == [("one",), ('"two',)]
    with pytest.raises(DataError, match=r"4,194,310 bytes .* more than 4,194,304"):
        source[1]


def test_quotes_that_never_end_cost_a_little_time(tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture(1))
    path = tmp_path / "table.csv"
    # Each line leaves a quoted field open, which each later line may close.
    lines = [f'a.jpg,"{number}""y\n' for number in range(10_000)]
    path.write_text("filepath,caption\n" + "".join(lines))
    start = time.process_time()
    source = open_source(config(tmp_path, path))
    assert source[9_999].captions == ('"9999""y',)
    assert time.process_time() - start < 10


def test_zeros_and_foreign_letters_in_a_csv(tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture(1))
    path = tmp_path / "table.csv"
    path.write_bytes("filepath,caption\na.jpg,b\0c\nx\0.jpg,d\na.jpg,\u202ee\n".encode())
    source = open_source(config(tmp_path, path))
    assert [source[n].captions[0] for n in range(3)] == ["b\0c", "d", "\u202ee"]


def pairs(folder, **columns) -> Path:
    """A parquet file, dictionaries and all, in row groups of ten."""
    (folder / "a.jpg").write_bytes(picture(1))
    path = folder / "table.parquet"
    table = pyarrow.table(columns)
    parquet.write_table(
        table, path, row_group_size=10, store_schema=False, dictionary_pagesize_limit=1 << 28
    )
    return path


def test_a_value_that_is_repeated_a_million_times_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "_UNPACKED", 10_000_000)
    monkeypatch.setattr(parquet_rows, "_IN_MEMORY", 10_000_000)
    texts = pyarrow.array(["x" * 1_000_000])
    captions = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000), texts)
    path = pairs(tmp_path, filepath=["a.jpg"] * 1000, caption=captions)
    assert path.stat().st_size < 20_000_000
    monkeypatch.setattr(parquet_rows, "_RATIO", 1)
    with pytest.raises(DataError, match="unpack to far more than a table of its size"):
        open_source(config(tmp_path, path))


def test_rows_of_a_damaged_page_are_bad_samples_and_the_others_are_read(tmp_path):
    captions = [f"caption {number}" for number in range(100)]
    path = pairs(tmp_path, filepath=["a.jpg"] * 100, caption=captions)
    column = parquet.read_metadata(path).row_group(3).column(1)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"10 of 100 rows .* more than --data.max-bad-share 0.01"):
        open_source(config(tmp_path, path))
    for _ in range(2):  # from the cache, too
        source = open_source(config(tmp_path, path, max_bad_share=0.1))
        found = [source[number].captions[0] for number in range(len(source))]
        assert found == captions[:30] + captions[40:]
        assert len(source.bad_samples) == 10


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 3000 + "b.jpg", "x\0.jpg"])
def test_a_picture_whose_name_no_file_can_have_is_one_bad_sample(tmp_path, name):
    (tmp_path / "a.jpg").write_bytes(picture(1))
    names = (name, "a.jpg", "a.jpg")
    rows = [{"filepath": each, "caption": f"{n}"} for n, each in enumerate(names)]
    path = tmp_path / "table.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    source = open_source(config(tmp_path, path))
    with pytest.raises(DataError):
        decode(source[0].image)
    assert decode(source[1].image).shape == (3, 16, 16)
