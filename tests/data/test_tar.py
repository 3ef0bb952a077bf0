"""The header walk finds what tarfile finds, in every format, and says what is wrong with the
rest."""

import os
import tarfile

import pytest

from diptych.data import tar as tar_module
from diptych.data.tar import TarIndex, index_tar
from diptych.errors import DataError
from tests.data.builders import write_tar

LONG = "a-long-folder-name/" * 12 + "picture"
FILES = {
    "one.jpg": b"1" * 700,
    "one.txt": b"first",
    f"{LONG}.jpg": b"2",
    "Größe/猫 一.png": b"33",
    "Größe/猫 一.seg.png": b"mask",
    "empty.txt": b"",
    "block.jpg": b"4" * 512,
}


def contents(path, index: TarIndex) -> dict[str, bytes]:
    data = path.read_bytes()
    return {
        f"{index.key(sample)}.{ending}": data[offset : offset + size]
        for sample in range(len(index))
        for ending, (offset, size) in index.members(sample).items()
    }


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_yields_the_same_files(tmp_path, format):
    files = {
        name: data
        for name, data in FILES.items()
        if format != tarfile.USTAR_FORMAT or len(name) < 250
    }
    path = write_tar(tmp_path / "a.tar", files, format)
    index = index_tar(path)
    assert contents(path, index) == files
    assert index.error == ""


def test_the_ustar_prefix_is_part_of_the_name(tmp_path):
    name = "folder/" * 20 + "x.jpg"
    path = write_tar(tmp_path / "a.tar", {name: b"data"}, tarfile.USTAR_FORMAT)
    assert index_tar(path).key(0) == name.removesuffix(".jpg")


def test_members_that_belong_to_no_sample_are_left_out(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in [
            ("folder", tarfile.DIRTYPE),
            ("link.jpg", tarfile.SYMTYPE),
            ("hard.jpg", tarfile.LNKTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, "x.jpg", 0
            tar.addfile(member)
        for name in ("folder/.hidden", "__meta__/a.json", "README", "x.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    assert list(contents(path, index_tar(path))) == ["x.jpg"]


def test_parts_of_a_sample_need_not_be_neighbours_and_a_repeated_key_begins_a_new_one(tmp_path):
    names = ["a.jpg", "b.jpg", "a.txt", "b.txt", "a.jpg", "a.txt"]
    index = index_tar(write_tar(tmp_path / "a.tar", [(name, b"") for name in names]))
    assert [(index.key(n), sorted(index.members(n))) for n in range(len(index))] == [
        ("a", ["jpg", "txt"]),
        ("b", ["jpg", "txt"]),
        ("a", ["jpg", "txt"]),
    ]


def test_a_size_in_base_256_is_read(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.jpg": b"xyz", "b.jpg": b"q"})
    data = bytearray(path.read_bytes())
    data[124:136] = b"\x80" + (3).to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    assert contents(path, index_tar(path)) == {"a.jpg": b"xyz", "b.jpg": b"q"}


def test_a_cut_tar_keeps_its_whole_samples(tmp_path):
    files = {f"{n}.{ending}": b"x" * 900 for n in range(5) for ending in ("jpg", "txt")}
    path = write_tar(tmp_path / "a.tar", files)
    whole = path.read_bytes()
    starts = {name: whole.index(name.encode()) for name in files}
    path.write_bytes(whole[: starts["3.txt"] + 600])
    index = index_tar(path)
    assert [index.key(n) for n in range(len(index))] == ["0", "1", "2"]
    assert index.error == f"cut short at byte {starts['3.txt'] + 600}, inside 3.txt"
    path.write_bytes(whole[: starts["3.jpg"]])
    assert "no end mark" in index_tar(path).error
    assert len(index_tar(path)) == 3


def test_corruption_in_the_middle_is_reported_and_what_lies_before_is_kept(tmp_path):
    path = write_tar(tmp_path / "a.tar", {f"{n}.jpg": b"x" for n in range(5)})
    data = bytearray(path.read_bytes())
    data[2 * 1024 + 3] ^= 0xFF
    path.write_bytes(data)
    index = index_tar(path)
    assert (len(index), index.error) == (2, "corrupt at byte 2048")


@pytest.mark.parametrize(
    ("start", "says"),
    [(b"\x1f\x8b\x08", "compressed .gzip."), (b"PK\x03\x04", "not a tar archive")],
)
def test_what_is_no_plain_tar_is_refused(tmp_path, start, says):
    path = tmp_path / "a.tar"
    path.write_bytes(start + bytes(range(256)) * 4)
    with pytest.raises(DataError, match=says):
        index_tar(path)


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A ustar header with any size field, and its right checksum."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157], block[148:156] = size.ljust(12, b"\0"), kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


GOOD = header("a.txt", b"5") + b"first".ljust(512, b"\0")
END = b"\0" * 1024


@pytest.mark.parametrize(
    "hostile",
    [
        header("b.txt", b"-0000001000"),
        header("b.txt", b"+0000001000"),
        header("b.txt", b"0000_000010"),
        header("b.txt", b"\xff" * 11 + b"\x00"),
        header("x", b"14", b"x") + b"12 size=-512\n".ljust(512, b"\0") + header("b.txt", b"1"),
        header("x", b"14", b"x") + b"-2 path=b.txt\n".ljust(512, b"\0") + header("b.txt", b"1"),
        header("x", b"14", b"x") + b"2 path=b.txt\n".ljust(512, b"\0") + header("b.txt", b"1"),
        header("x", b"40000000", b"x") + b"\0" * (8 << 20),
        header("x", b"40000000", b"L") + b"b" * (8 << 20),
        header("x", b"11610", b"L") + b"b" * 5120 + header("b.txt", b"1"),
        header("x", b"35", b"x")
        + b"29 GNU.sparse.name=real.txt \n".ljust(512, b"\0")
        + header("b.txt", b"1")
        + b"2",
    ],
    ids=[
        *("minus", "plus", "underscore", "base 256", "pax", "step back", "stay", "long x"),
        *("long L", "long name", "sparse"),
    ],
)
def test_a_hostile_header_ends_the_walk_and_keeps_what_lies_before(tmp_path, hostile):
    path = tmp_path / "a.tar"
    path.write_bytes(GOOD + hostile + END)
    index = index_tar(path)
    assert contents(path, index) == {"a.txt": b"first"}
    assert index.error


@pytest.mark.slow
def test_a_sample_with_more_kinds_of_members_than_sixteen_bits_count(tmp_path):
    path = tmp_path / "a.tar"
    members = (header(f"a.e{number}", b"0") for number in range(70_000))
    path.write_bytes(b"".join(members) + END)
    assert len(index_tar(path).members(0)) == 70_000


def pax(**records: bytes) -> bytes:
    """A pax header."""
    data = b""
    for key, value in records.items():
        body = b" " + key.encode() + b"=" + value + b"\n"
        length = len(body) + len(str(len(body) + len(str(len(body)))))
        data += str(length).encode() + body
    filled = data + bytes(-len(data) % 512)
    return header("x", f"{len(data):o}".encode(), b"x") + filled


def test_pax_records_are_kept_no_longer_than_their_member(tmp_path):
    many = pax(**{f"k{number}": b"v" * 20 for number in range(20_000)})
    path = tmp_path / "a.tar"
    path.write_bytes(GOOD + many * 3 + pax(path=b"c.txt\0.jpg") + header("b.txt", b"0") + END)
    assert contents(path, index_tar(path)) == {"a.txt": b"first", "c.txt": b""}


def test_more_members_than_any_shard_has_end_the_walk(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_module, "_MOST", 10)
    path = write_tar(tmp_path / "a.tar", [(f"{n}.txt", b"") for n in range(20)])
    index = index_tar(path)
    assert len(index) == 10
    assert "more than 10 members" in index.error


def test_a_pipe_and_a_folder_are_no_tar(tmp_path):
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "folder.tar").mkdir()
    for name in ("pipe.tar", "folder.tar"):
        with pytest.raises(DataError, match=f"{name} is not a file"):
            index_tar(tmp_path / name)
