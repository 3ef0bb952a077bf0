"""Files of ids in whichever form, and what is refused in one sentence."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from diptych.data.id_file import first_ids, read_ids
from diptych.data.ids import value_of
from diptych.errors import DataError

UIDS = ["00000000000000000000000000000001", "0123456789abcdefFEDCBA9876543210", "f" * 32]
WORDS = ["cat/1.png", "7", "ä b"]


def halves(uids, kind="u8,u8"):
    """As DataComp writes them."""
    return np.array([divmod(int(uid, 16), 2**64) for uid in uids], kind)


def npy(array, **options):
    def write(path):
        with path.open("wb") as file:
            np.save(file, array, **options)

    return write


def text(content, encoding="utf-8"):
    def write(path):
        path.write_bytes(content.encode(encoding))

    return write


def parquet(**columns):
    def write(path):
        pa.parquet.write_table(pa.table(columns), path)

    return write


@pytest.mark.parametrize(
    ("name", "write", "ids"),
    [
        ("a.npy", npy(halves(UIDS)), UIDS),
        ("a.npy", npy(halves(UIDS, ">u8,>u8")), UIDS),
        ("a.npy", npy(np.array(halves(UIDS).tolist(), np.uint64)), UIDS),
        ("a.npy", npy(np.asfortranarray(np.array(halves(UIDS).tolist(), np.uint64))), UIDS),
        ("a.npy", npy(np.array(UIDS)), UIDS),
        ("a.npy", npy(np.array(WORDS)), WORDS),
        ("a.NPY", npy(np.array([each.encode() for each in WORDS])), WORDS),
        ("a.npy", npy(np.array([7, 2**40])), ["7", str(2**40)]),
        ("a.txt", text("cat/1.png\r\n\n 7 \nä b"), WORDS),
        ("a.txt", text("\ufeffcat/1.png\n7\nä b\n"), WORDS),
        ("a.txt", text("cat/1.png\n7\nä b\n", "utf-16"), WORDS),
        ("a.csv", text('n,UID\n1,cat/1.png\n2,"7"\n3\n4,ä b\n'), WORDS),
        ("a.csv", text("uid;n\ncat/1.png;1\n7;2\nä b;3\n"), WORDS),
        ("a.csv", text("cat/1.png\n7\nä b\n"), WORDS),
        ("a.csv", text('"Uid"\ncat/1.png\n7\nä b\n'), WORDS),
        ("a.csv", text("\ufeff\r\n \nuid,n\ncat/1.png,1\n7,2\nä b,3\n"), WORDS),
        ("a.tsv", text("uid\tn\ncat/1.png\t1\n7\t2\nä b\t3\n"), WORDS),
        ("a.parquet", parquet(n=[1, 2, 3], uid=UIDS), UIDS),
        ("a.parquet", parquet(uid=[7, None, 8], n=[1, 2, 3]), ["7", "8"]),
        ("a.parquet", parquet(uid=[7.0, None, 8.0], n=[1, 2, 3]), ["7", "8"]),
        ("a.parquet", parquet(other=pa.array(WORDS).dictionary_encode()), WORDS),
        ("a.jsonl", text('{"uid": "cat/1.png"}\n{"uid": 7}\n\n{"no": 1}\n{"uid": "ä b"}'), WORDS),
        ("a.jsonl", text('"cat/1.png"\n7\n"ä b"\n'), WORDS),
        ("a.json", text(json.dumps(WORDS)), WORDS),
        ("a.json", text(json.dumps([{"uid": each} for each in WORDS], indent=2)), WORDS),
    ],
)
def test_ids_are_the_same_in_whichever_file(tmp_path, name, write, ids):
    write(tmp_path / name)
    found = np.concatenate(list(read_ids(tmp_path / name, "uid")))
    assert found.tobytes() == b"".join(map(value_of, ids))
    assert [first.lower() for first in first_ids(tmp_path / name, "uid", 2)] == [
        each.lower() for each in ids[:2]
    ]


def test_hexadecimal_digits_are_a_number_and_other_texts_a_hash():
    number = "0123456789abcdeffedcba9876543210"
    assert value_of(number) == value_of(number.upper()) == bytes.fromhex(number)
    assert value_of(number) == value_of(number.lstrip("0"))  # some write it without its zeros
    assert value_of("7") != value_of("07")
    assert len({value_of(each) for each in ("7", "007", "a", "A", number[:23])}) == 5


def cut(path):
    np.save(path, halves(UIDS))
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        ("a.npy", None, "doesn't exist"),
        ("a.npy", lambda path: path.mkdir(), "is no regular file: name a file of ids"),
        ("a.npy", text(""), "is empty"),
        ("a.npy", npy(np.array(["a", None])), "holds pickled Python objects"),
        ("a.npy", cut, "doesn't hold the 48 bytes that it says"),
        ("a.npy", text("\x93NUMPY"), "can't be read"),
        ("a.npy", text("no array"), "can't be read"),
        ("a.npy", npy(np.array([0.5])), "holds [1] of float64; ids are texts or whole numbers"),
        ("a.npy", npy(np.zeros((2, 3), int)), "holds [2, 3] of int64"),
        ("a.npy", npy(np.zeros(2, "u4,u4")), "ids are texts or whole numbers in one dimension"),
        ("a.npy", npy(np.zeros(0, "u8,u8")), "holds no ids"),
        ("a.txt", text("\n \n"), "holds no ids"),
        ("a.txt", text("x" * 70_000), "line 1 has more than 65,536 letters"),
        ("a.txt", lambda path: path.write_bytes(b"\xff\xd8\xff"), "can't be read: 'utf-8' codec"),
        ("a.csv", text("url,text\na,b\n"), "has no column 'uid', only url, text"),
        ("a.csv", text("\ufeff"), "holds no ids"),
        ("a.tsv", text("", "utf-16"), "holds no ids"),
        ("a.csv", text("\n \n"), "holds no ids"),
        ("a.csv", text("uid,n\n" + "x" * 200_000), "can't be read"),
        ("a.parquet", text("PAR1"), "can't be read"),
        ("a.parquet", parquet(url=["a"], text=["b"]), "has no column 'uid', only url, text"),
        ("a.jsonl", text('{"id": 7}\n'), "none that are called 'uid' (--data.keep-field)"),
        ("a.jsonl", text("{\n"), "can't be read"),
        ("a.json", text("[1, 2"), "can't be read"),
        ("a.npz", text("x"), "is no file of ids that is read: write them as .npy, .txt, .csv"),
    ],
)
def test_what_is_no_file_of_ids_is_one_sentence(tmp_path, name, write, sentence):
    if write:
        write(tmp_path / name)
    with pytest.raises(DataError, match=re.escape(sentence)) as error:
        list(read_ids(tmp_path / name, "uid"))
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)
