"""The header walk finds what tarfile finds, in every format, and says what is wrong with the
rest."""

import tarfile

import numpy as np
import pytest

from diptych.data.tar import TarIndex, cached_index, index_tar
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


def test_the_cached_index_is_used_until_the_file_changes(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", FILES)
    first = cached_index(path, tmp_path / "cache")
    walks = []
    monkeypatch.setattr(
        "diptych.data.tar.index_tar", lambda path: walks.append(path) or index_tar(path)
    )
    again = cached_index(path, tmp_path / "cache")
    assert walks == []
    for name, value in vars(first).items():
        assert np.array_equal(getattr(again, name), value), name
    write_tar(path, {"new.jpg": b"1"})
    assert len(cached_index(path, tmp_path / "cache")) == 1
    assert walks == [path]


def test_a_cache_that_is_corrupt_or_cannot_be_written_does_no_harm(tmp_path):
    path = write_tar(tmp_path / "a.tar", FILES)
    expected = len(cached_index(path, tmp_path / "cache"))
    [stored] = (tmp_path / "cache" / "index").glob("*.npz")
    for content in (b"", b"PK\x03\x04 nonsense", stored.read_bytes()[:300]):
        stored.write_bytes(content)
        assert len(cached_index(path, tmp_path / "cache")) == expected
    (tmp_path / "file").write_text("")
    assert len(cached_index(path, tmp_path / "file")) == expected
