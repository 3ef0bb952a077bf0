"""The folder of an index: what a kill leaves, what other programs read."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from diptych.encoder import Identity
from diptych.errors import DataError
from diptych.search import meta, store, writer
from diptych.search.pictures import Picture

META = meta.IndexMeta(model=Identity(name="m", dtype="fp32", fingerprint="f"), width=3)


def rows(start: int, count: int) -> tuple[list[Picture], torch.Tensor]:
    pictures = [
        Picture(path=f"/p/{i}\n.jpg", size=i, mtime_ns=i) for i in range(start, start + count)
    ]
    return pictures, torch.arange(start * 3, (start + count) * 3).float().view(-1, 3)


@pytest.fixture
def index(tmp_path):
    folder = tmp_path / "x.index"
    folder.mkdir()
    writer.create(folder, META)
    with writer.Appender(folder) as appender:
        appender.append(*rows(0, 2))
        appender.append(*rows(2, 2))
    return folder


def test_rows_come_back_in_order(index):
    found = store.Store(index)
    pictures, vectors = rows(0, 4)
    assert list(found.pictures()) == pictures
    assert np.array_equal(found.vectors, vectors.numpy())


def test_numpy_reads_the_vectors(index):
    with writer.Appender(index) as appender:
        for start in range(4, 104, 10):  # the header's count grows from one digit to three
            appender.append(*rows(start, 10))
    vectors = np.load(index / "vectors-0.npy", mmap_mode="r")
    assert np.array_equal(vectors, rows(0, 104)[1].numpy())


def test_half_the_size_in_float16(tmp_path):
    writer.create(tmp_path, meta.IndexMeta(model=META.model, width=3, vectors="float16"))
    with writer.Appender(tmp_path) as appender:
        appender.append(*rows(0, 2))
    assert store.Store(tmp_path).vectors.dtype == np.float16
    assert np.load(tmp_path / "vectors-0.npy").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("lost", [1, 5, 30])
def test_a_line_that_a_kill_cut_is_no_row(index, lost):
    """The kill came while lines were written; vectors were there already, the header wasn't."""
    header = (index / "vectors-0.npy").read_bytes()[:128]
    with writer.Appender(index) as appender:
        appender.append(*rows(4, 1))
    items, vectors = index / "items-0.jsonl", index / "vectors-0.npy"
    items.write_bytes(items.read_bytes()[:-lost])
    vectors.write_bytes(header + vectors.read_bytes()[128:])
    assert (len(store.Store(index)), store.Store(index).damaged) == (4, 0)
    with writer.Appender(index) as appender:
        appender.append(*rows(4, 2))
    found = store.Store(index)
    assert list(found.pictures()) == rows(0, 6)[0]
    assert np.array_equal(found.vectors, rows(0, 6)[1].numpy())
    assert np.load(vectors).shape == (6, 3)
    assert found.damaged == 0


def lines(index) -> list[bytes]:
    return (index / "items-0.jsonl").read_bytes().splitlines(keepends=True)


def write_lines(index, new: list[bytes]) -> None:
    (index / "items-0.jsonl").write_bytes(b"".join(new))


def write_vectors(index, new: np.ndarray) -> None:
    np.save(index / "vectors-0.npy", new)


def pad(path, more: bytes) -> None:
    path.write_bytes(path.read_bytes() + more)


@pytest.mark.parametrize(
    ("damage", "sound", "lost"),
    [
        (lambda i: write_lines(i, lines(i)[1:]), [0, 0, 0], 1),
        (lambda i: write_lines(i, lines(i)[:3]), [1, 1, 1], 1),
        (lambda i: write_lines(i, [lines(i)[0], *lines(i)]), [1, 0, 0, 0], 1),
        (lambda i: write_lines(i, [*lines(i), lines(i)[3]]), [1, 1, 1, 1], 1),
        (lambda i: write_lines(i, [lines(i)[k] for k in (1, 0, 2, 3)]), [0, 0, 1, 1], 0),
        (lambda i: write_lines(i, [*lines(i)[:2], b"7\n", lines(i)[3]]), [1, 1, 0, 1], 0),
        (lambda i: write_lines(i, [*lines(i)[:2], b"\n", lines(i)[3]]), [1, 1, 0, 1], 0),
        (
            lambda i: write_lines(
                i, [lines(i)[0].replace(b'"size": 0', b'"size": 1'), *lines(i)[1:]]
            ),
            [0, 1, 1, 1],
            0,
        ),
        (lambda i: write_vectors(i, np.load(i / "vectors-0.npy")[[0, 2, 1, 3]]), [1, 0, 0, 1], 0),
        (lambda i: write_vectors(i, np.load(i / "vectors-0.npy")[:2]), [1, 1], 2),
        (
            lambda i: write_vectors(
                i, np.load(i / "vectors-0.npy") * np.float32([[1], [1], [1], [-1]])
            ),
            [1, 1, 1, 0],
            0,
        ),
        (lambda i: pad(i / "vectors-0.npy", b"\1" * 12), [1, 1, 1, 1], 0),
        (lambda i: pad(i / "items-0.jsonl", b"{"), [1, 1, 1, 1], 0),
    ],
    ids=[
        *("first line lost", "last line lost", "line doubled", "line doubled at the end"),
        *("lines swapped", "no picture", "empty line", "another size", "vectors swapped"),
        *("vectors cut", "sign flipped", "vectors padded", "lines padded"),
    ],
)
def test_what_is_not_as_it_was_written_is_noticed(index, damage, sound, lost):
    damage(index)
    found = store.Store(index)
    assert found.sound.tolist() == list(map(bool, sound))
    assert found.lost == lost
    assert found.damaged == lost + sound.count(0)


def test_every_bit_of_lines_and_vectors_counts(index):
    for name in ("items-0.jsonl", "vectors-0.npy"):
        good = (index / name).read_bytes()
        start = 128 if name.startswith("vectors") else 0
        for place in range(start, len(good)):
            if good[place : place + 1] == b"\n":
                continue
            flipped = good[place] ^ (1 << place % 8)
            if flipped == ord("\n"):
                continue
            (index / name).write_bytes(good[:place] + bytes([flipped]) + good[place + 1 :])
            assert store.Store(index).damaged == 1, (name, place)
        (index / name).write_bytes(good)
    assert store.Store(index).damaged == 0


def test_vectors_of_another_model_do_not_agree(index, tmp_path):
    (tmp_path / "y.index").mkdir()
    other = replace(META, model=replace(META.model, fingerprint="g"))
    writer.create(tmp_path / "y.index", other)
    (index / "meta.json").write_bytes((tmp_path / "y.index" / "meta.json").read_bytes())
    assert not store.Store(index).sound.any()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"float32"', b'"float16"'),
        (b'"width": 3', b'"width": 4'),
        (b'"fp32"', b'"fp16"'),
        (b'"m"', b'"n"'),
        (b'"generation": 0', b'"generation": 1'),
        (b'"format": 2', b'"format": 1'),
    ],
)
def test_every_word_of_the_description_counts(index, old, new):
    text = (index / "meta.json").read_bytes()
    assert old in text
    (index / "meta.json").write_bytes(text.replace(old, new))
    with pytest.raises(DataError, match="is corrupt"):
        store.Store(index)


def test_vectors_in_another_type_are_refused(index):
    write_vectors(index, np.load(index / "vectors-0.npy").astype(np.float16))
    with pytest.raises(DataError, match=r"corrupt \(vectors in float16, not float32"):
        store.Store(index)


def write_format_1(folder, vectors: np.ndarray) -> None:
    """As it was before there were checksums."""
    folder.mkdir()
    np.save(folder / "vectors-0.npy", vectors)
    with (folder / "items-0.jsonl").open("w") as file:
        for row in range(len(vectors)):
            file.write(f'{{"path": "/p/{row}.jpg", "size": {row}, "mtime_ns": {row}}}\n')
    values = {"model": asdict(META.model), "width": vectors.shape[1], "vectors": "float32"}
    (folder / "meta.json").write_text(json.dumps(values | {"generation": 0, "format": 1}))


def test_an_index_without_checksums_opens_and_is_written_anew(tmp_path):
    old = tmp_path / "old.index"
    write_format_1(old, np.eye(3, dtype=np.float32))
    found = store.Store(old)
    assert [picture.path for picture in found.pictures()] == ["/p/0.jpg", "/p/1.jpg", "/p/2.jpg"]
    assert (found.damaged, found.is_current) == (0, False)
    writer.rewrite(old, list(enumerate(found.pictures())))
    new = store.Store(old)
    assert list(new.pictures()) == list(found.pictures())
    assert (new.vectors.tolist(), new.damaged, new.is_current) == (np.eye(3).tolist(), 0, True)


def test_what_an_index_without_checksums_shows_of_its_damage(tmp_path):
    vectors = np.eye(3, dtype=np.float32)
    vectors[1, 1], vectors[2, 0] = np.nan, 3e38
    write_format_1(tmp_path / "old.index", vectors)
    assert store.Store(tmp_path / "old.index").sound.tolist() == [True, False, False]
    np.save(tmp_path / "old.index" / "vectors-0.npy", np.eye(3, dtype=np.float32)[:2])
    with pytest.raises(DataError, match="vectors for 2 pictures, and names for 3"):
        store.Store(tmp_path / "old.index")


def test_pictures_beside_an_index_move_with_it(tmp_path):
    (tmp_path / "a" / "photos").mkdir(parents=True)
    (tmp_path / "a" / "photos" / "1.jpg").write_bytes(b"x")
    index = tmp_path / "a" / "x.index"
    index.mkdir()
    writer.create(index, META)
    beside, elsewhere = str(tmp_path / "a" / "photos" / "1.jpg"), "/p/2.jpg"
    pictures = [Picture(path=path, size=1, mtime_ns=1) for path in (beside, elsewhere)]
    with writer.Appender(index) as appender:
        appender.append(pictures, torch.eye(3)[:2])
    assert list(store.Store(index).pictures()) == pictures
    # The index alone: its pictures are where they were.
    index.rename(tmp_path / "x.index")
    assert list(store.Store(tmp_path / "x.index").pictures()) == pictures
    assert not store.Store(tmp_path / "x.index").is_current
    (tmp_path / "x.index").rename(index)
    # Both.
    (tmp_path / "a").rename(tmp_path / "b")
    moved = store.Store(tmp_path / "b" / "x.index")
    expected = [str(tmp_path / "b" / "photos" / "1.jpg"), elsewhere]
    assert [picture.path for picture in moved.pictures()] == expected
    assert moved.damaged == 0


def test_a_reader_that_a_writer_overtakes_looks_again(index, monkeypatch):
    read = store.read_meta

    def slow(folder):
        meta = read(folder)
        monkeypatch.setattr(store, "read_meta", read)
        writer.rewrite(index, [(1, store.Store(index).picture(1))])
        return meta

    monkeypatch.setattr(store, "read_meta", slow)
    assert [picture.size for picture in store.Store(index).pictures()] == [1]


def test_rows_that_are_written_meanwhile_are_no_damage(index, monkeypatch):
    """The reader has the header of before, or of after, never more rows told of than there are."""
    header = store.Store._header

    def slow(self, file):
        found = header(self, file)
        monkeypatch.undo()
        with writer.Appender(index) as appender:
            appender.append(*rows(4, 2))
        return found

    monkeypatch.setattr(store.Store, "_header", slow)
    found = store.Store(index)
    assert (len(found), found.damaged) == (6, 0)


def test_vectors_without_lines_are_cut_off(index):
    """The kill came between vectors and lines."""
    with open(index / "vectors-0.npy", "ab") as file:
        file.write(b"\1" * 40)
    with writer.Appender(index) as appender:
        appender.append(*rows(4, 1))
    assert np.array_equal(store.Store(index).vectors, rows(0, 5)[1].numpy())


def test_what_is_left_keeps_its_vectors(index):
    old = store.Store(index)
    writer.rewrite(index, [(row, old.picture(row)) for row in (0, 3)])
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


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_rewriting_that_was_stopped_has_not_happened(index, monkeypatch, error):
    append = writer.Appender.append
    monkeypatch.setattr(writer.Appender, "append", lambda *_: (_ for _ in ()).throw(error))
    before = sorted(index.iterdir())
    with pytest.raises(error):
        writer.rewrite(index, [(0, store.Store(index).picture(0))])
    assert sorted(index.iterdir()) == before
    monkeypatch.setattr(writer.Appender, "append", append)
    assert len(store.Store(index)) == 4
    writer.rewrite(index, [(row, store.Store(index).picture(row)) for row in (1, 2, 3)])
    assert [picture.size for picture in store.Store(index).pictures()] == [1, 2, 3]


def test_one_writer(index):
    with (
        meta.locked(index),
        pytest.raises(DataError, match="another process"),
        meta.locked(index),
    ):
        pass
    with meta.locked(index):
        pass


@pytest.mark.parametrize("text", ["", "{", '{"format": 3}'])
def test_a_corrupt_or_newer_index_is_an_error(index, text):
    (index / "meta.json").write_text(text)
    with pytest.raises(DataError, match="embed again"):
        store.Store(index)


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(DataError, match="is not an index"):
        meta.exists(tmp_path)
    with pytest.raises(DataError, match="is not an index; make one with"):
        store.Store(tmp_path)
