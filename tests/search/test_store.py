"""The folder of an index: what a kill leaves, what other programs read."""

import numpy as np
import pytest
import torch

from diptych.encoder import Identity
from diptych.errors import DataError
from diptych.search import store
from diptych.search.pictures import Picture

META = store.IndexMeta(model=Identity(name="m", dtype="fp32", fingerprint="f"), width=3)


def rows(start: int, count: int) -> tuple[list[Picture], torch.Tensor]:
    pictures = [
        Picture(path=f"/p/{i}\n.jpg", size=i, mtime_ns=i) for i in range(start, start + count)
    ]
    return pictures, torch.arange(start * 3, (start + count) * 3).float().view(-1, 3)


@pytest.fixture
def index(tmp_path):
    folder = tmp_path / "x.index"
    folder.mkdir()
    store.create(folder, META)
    with store.Appender(folder) as appender:
        appender.append(*rows(0, 2))
        appender.append(*rows(2, 2))
    return folder


def test_rows_come_back_in_order(index):
    found = store.Store(index)
    pictures, vectors = rows(0, 4)
    assert list(found.pictures()) == pictures
    assert np.array_equal(found.vectors, vectors.numpy())


def test_numpy_reads_the_vectors(index):
    with store.Appender(index) as appender:
        for start in range(4, 104, 10):  # the header's count grows from one digit to three
            appender.append(*rows(start, 10))
    vectors = np.load(index / "vectors-0.npy", mmap_mode="r")
    assert np.array_equal(vectors, rows(0, 104)[1].numpy())


def test_half_the_size_in_float16(tmp_path):
    store.create(tmp_path, store.IndexMeta(model=META.model, width=3, vectors="float16"))
    with store.Appender(tmp_path) as appender:
        appender.append(*rows(0, 2))
    assert store.Store(tmp_path).vectors.dtype == np.float16
    assert np.load(tmp_path / "vectors-0.npy").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("lost", [1, 5, 30])
def test_a_cut_line_is_no_row(index, lost):
    """The kill came while lines were written; vectors were there already."""
    items = index / "items-0.jsonl"
    items.write_bytes(items.read_bytes()[:-lost])
    assert len(store.Store(index)) == 3
    with store.Appender(index) as appender:
        appender.append(*rows(3, 2))
    found = store.Store(index)
    assert list(found.pictures()) == rows(0, 5)[0]
    assert np.array_equal(found.vectors, rows(0, 5)[1].numpy())
    assert np.load(index / "vectors-0.npy").shape == (5, 3)


def test_lines_that_are_lost_are_noticed(index):
    """Else every later picture would be found by its neighbour's vector."""
    items = index / "items-0.jsonl"
    items.write_bytes(b"".join(items.read_bytes().splitlines(keepends=True)[1:]))
    for reader in (store.Store, store.Appender):
        with pytest.raises(DataError, match=r"is corrupt \(it has vectors for \[4, 3\], and names"):
            reader(index)


@pytest.mark.parametrize("line", [b"7", b"{", b'{"path": 3, "size": 1, "mtime_ns": 1}', b"\xff"])
def test_a_line_that_is_no_picture_is_corruption(index, line):
    items = index / "items-0.jsonl"
    items.write_bytes(b"\n".join([line, *items.read_bytes().splitlines()[1:]]) + b"\n")
    with pytest.raises(DataError, match="is corrupt"):
        store.Store(index).picture(0)


def test_vectors_without_lines_are_cut_off(index):
    """The kill came between vectors and lines."""
    with open(index / "vectors-0.npy", "ab") as file:
        file.write(b"\1" * 40)
    with store.Appender(index) as appender:
        appender.append(*rows(4, 1))
    assert np.array_equal(store.Store(index).vectors, rows(0, 5)[1].numpy())


def test_dropping_leaves_the_others(index):
    old = store.Store(index)
    store.drop(index, np.array([True, False, False, True]))
    found = store.Store(index)
    assert [picture.size for picture in found.pictures()] == [0, 3]
    assert found.vectors.tolist() == [[0, 1, 2], [9, 10, 11]]
    assert sorted(path.name for path in index.iterdir()) == [
        "items-1.jsonl",
        "meta.json",
        "vectors-1.npy",
    ]
    assert [picture.size for picture in old.pictures()] == [0, 1, 2, 3], (
        "an open reader keeps what it has"
    )


def test_a_drop_that_was_killed_has_not_happened(index, monkeypatch):
    monkeypatch.setattr(store.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.drop(index, np.array([True, False, False, True]))
    monkeypatch.undo()
    assert len(store.Store(index)) == 4
    store.drop(index, np.array([False, True, True, True]))
    assert [picture.size for picture in store.Store(index).pictures()] == [1, 2, 3]


def test_one_writer(index):
    with (
        store.locked(index),
        pytest.raises(DataError, match="another process"),
        store.locked(index),
    ):
        pass
    with store.locked(index):
        pass


@pytest.mark.parametrize("text", ["", "{", '{"format": 2}'])
def test_a_corrupt_or_newer_index_is_an_error(index, text):
    (index / "meta.json").write_text(text)
    with pytest.raises(DataError, match="embed again"):
        store.Store(index)


def test_lost_vectors_are_an_error(index):
    (index / "vectors-0.npy").write_bytes((index / "vectors-0.npy").read_bytes()[:-12])
    with pytest.raises(DataError, match="corrupt"):
        store.Store(index)


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(DataError, match="is not an index"):
        store.exists(tmp_path)
    with pytest.raises(DataError, match="is not an index; make one with"):
        store.Store(tmp_path)
