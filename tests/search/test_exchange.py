"""What other programs wrote is read, and they read what is written."""

import json
import tarfile

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from diptych.errors import ConfigError, DataError, DataWarning
from diptych.search import Condition, Index, Where, join, update, update_texts, writer
from diptych.search.clip_retrieval import read_parts
from diptych.search.export import export
from diptych.search.imported import import_index
from tests import tiny


@pytest.fixture
def index(tmp_path) -> Index:
    tiny.write_pictures(tmp_path / "photos")
    update(tmp_path / "x.index", tmp_path / "photos", tiny.encoder())
    (tmp_path / "table.csv").write_text("file,year\nred/0.png,2020\n")
    join(tmp_path / "x.index", tmp_path / "table.csv")
    return Index.open(tmp_path / "x.index", tiny.encoder())


def named(index: Index) -> list[str]:
    return [index.picture(row).path for row in range(len(index))]


def test_npy_and_parquet(tmp_path, index, monkeypatch):
    monkeypatch.setattr("diptych.search.export._PART", 5)
    export(index, tmp_path / "out", "npy")
    files = [tmp_path / "out" / "img_emb" / f"img_emb_{part}.npy" for part in range(3)]
    vectors = np.concatenate([np.load(file) for file in files])
    np.testing.assert_array_equal(vectors, index.vectors.numpy())
    tables = [parquet.read_table(tmp_path / f"out/metadata/metadata_{n}.parquet") for n in range(3)]
    rows = pyarrow.concat_tables(tables)
    assert rows["image_path"].to_pylist() == named(index)
    assert rows["year"].to_pylist().count(2020) == 1
    with pytest.raises(ConfigError, match="exists; choose another name"):
        export(index, tmp_path / "out", "npy")


@pytest.mark.parametrize("program", ["faiss", "usearch"])
def test_the_programs_find_the_same(tmp_path, index, program):
    # Whatever keeps it from being imported: no faiss works with every NumPy that we do.
    pytest.importorskip(program, exc_type=ImportError)
    export(index, tmp_path / "out", program)
    query = index.vectors[4:5].numpy()
    if program == "faiss":
        import faiss

        rows = faiss.read_index(str(tmp_path / "out" / "image.index")).search(query, 3)[1][0]
    else:
        from usearch.index import Index as Graph

        restored = Graph.restore(str(tmp_path / "out" / "image.usearch"))
        rows = restored.search(query[0], 3).keys
    assert rows.tolist() == [hit.row for hit in index.search(index.vectors[4].clone(), top=3)]
    paths = parquet.read_table(tmp_path / "out/metadata/metadata_0.parquet")["image_path"]
    assert paths.to_pylist() == named(index)


def test_texts(tmp_path):
    (tmp_path / "a.txt").write_text("a cat\na dog\n")
    update_texts(tmp_path / "t.index", tmp_path / "a.txt", tiny.encoder())
    export(Index.open(tmp_path / "t.index"), tmp_path / "out")
    assert np.load(tmp_path / "out/text_emb/text_emb_0.npy").shape == (2, 128)
    table = parquet.read_table(tmp_path / "out/metadata/metadata_0.parquet")
    assert table["caption"].to_pylist() == ["a cat", "a dog"]


def test_an_index_of_faiss_comes_back(tmp_path, index):
    faiss = pytest.importorskip("faiss")
    export(index, tmp_path / "out", "faiss")
    assert import_index(tmp_path / "y.index", tmp_path / "out", tiny.encoder()) == 12
    again = Index.open(tmp_path / "y.index")
    assert named(again) == named(index)
    torch.testing.assert_close(again.vectors, index.vectors)
    flat = faiss.read_index(str(tmp_path / "out" / "image.index"))
    rounded = faiss.IndexScalarQuantizer(128, faiss.ScalarQuantizer.QT_8bit)
    rounded.train(flat.reconstruct_n(0, 12))
    rounded.add(flat.reconstruct_n(0, 12))
    for broken, said in ((rounded, "quantised vectors"), (faiss.IndexFlatIP(128), "tells of 12")):
        faiss.write_index(broken, str(tmp_path / "out" / "image.index"))
        with pytest.raises(DataError, match=said):
            import_index(tmp_path / "z.index", tmp_path / "out", tiny.encoder())
    (tmp_path / "out" / "image.index").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="image.index can't be read"):
        import_index(tmp_path / "z.index", tmp_path / "out", tiny.encoder())


@pytest.mark.parametrize("graph", [False, True], ids=["flat", "graph"])
def test_a_damaged_index_of_faiss_is_a_sentence_or_none(tmp_path, graph):
    """faiss raises, or asks for more memory than there is."""
    faiss = pytest.importorskip("faiss", exc_type=ImportError)
    made = faiss.IndexHNSWFlat(16, 8) if graph else faiss.IndexFlatIP(16)
    made.add(np.ones((5, 16), np.float32))
    file = tmp_path / "image.index"
    faiss.write_index(made, str(file))
    (tmp_path / "metadata").mkdir()
    parquet.write_table(pyarrow.table({"url": ["a"] * 5}), tmp_path / "metadata/metadata_0.parquet")
    whole, refused = file.read_bytes(), 0
    assert len(read_parts(tmp_path, "pictures")[0][0]) == 5
    for place in range(4, 90):
        file.write_bytes(whole[:place] + b"\x7f" + whole[place + 1 :])
        try:
            read_parts(tmp_path, "pictures")
        except DataError:
            refused += 1
    assert refused > 20


def test_pictures_in_shards_come_back(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("red", "blue"):
            tiny.picture(name).save(tmp_path / f"{name}.png")
            tar.add(tmp_path / f"{name}.png", f"{name}.png")
    update(tmp_path / "x.index", tmp_path / "a.tar", tiny.encoder())
    index = Index.open(tmp_path / "x.index")
    export(index, tmp_path / "out")
    assert import_index(tmp_path / "y.index", tmp_path / "out", tiny.encoder()) == 2
    again = Index.open(tmp_path / "y.index")
    assert [again.picture(row) for row in (0, 1)] == [index.picture(row) for row in (0, 1)]
    assert update(tmp_path / "y.index", tmp_path / "a.tar", tiny.encoder()).kept == 2
    (tmp_path / "a.tar").write_bytes(b"no tar")
    with pytest.warns(DataWarning, match="none of the pictures of .* is here"):
        import_index(tmp_path / "z.index", tmp_path / "out", tiny.encoder())


def test_texts_come_back(tmp_path):
    (tmp_path / "a.txt").write_text("a cat\na dog\n")
    update_texts(tmp_path / "t.index", tmp_path / "a.txt", tiny.encoder())
    export(Index.open(tmp_path / "t.index"), tmp_path / "out")
    assert import_index(tmp_path / "y.index", tmp_path / "out", tiny.encoder()) == 2
    again = Index.open(tmp_path / "y.index", tiny.encoder())
    assert again.holds == "texts"
    assert again.search_text("a dog")[0].picture.text == "a dog"
    (tmp_path / "b.txt").write_text("a cow\n")
    update_texts(tmp_path / "y.index", tmp_path / "b.txt", tiny.encoder())
    assert len(Index.open(tmp_path / "y.index")) == 3
    with pytest.raises(ConfigError, match="tiny 1 didn't make the vectors of"):
        import_index(tmp_path / "z.index", tmp_path / "out", tiny.encoder(1))


def as_clip_retrieval(index: Index, folder, parts=((0, 7), (7, 12))) -> None:
    """float16, numbers with zeros before them, JSON in a column."""
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    for number, (start, end) in enumerate(parts):
        np.save(
            folder / f"img_emb/img_emb_{number:02}.npy",
            index.vectors[start:end].numpy().astype("f2"),
        )
        rows = {
            "image_path": named(index)[start:end],
            "caption": [f"caption {row}" for row in range(start, end)],
            "metadata": [json.dumps({"url": f"http://a/{row}"}) for row in range(start, end)],
        }
        parquet.write_table(pyarrow.table(rows), folder / f"metadata/metadata_{number:02}.parquet")


def test_what_clip_retrieval_wrote(tmp_path, index):
    as_clip_retrieval(index, tmp_path / "theirs")
    encoder = tiny.encoder()
    assert import_index(tmp_path / "y.index", tmp_path / "theirs", encoder) == 12
    found = Index.open(tmp_path / "y.index", encoder)
    assert named(found) == named(index)
    torch.testing.assert_close(found.vectors.float(), index.vectors, atol=1e-3, rtol=0)
    assert found.metadata.of(8) == {"caption": "caption 8", "url": "http://a/8"}
    assert (
        found.count(Where(conditions=(Condition.parse("caption~8"), Condition.parse("date>2000"))))
        == 1
    )
    assert update(tmp_path / "y.index", tmp_path / "photos", encoder).kept == 12
    with pytest.raises(ConfigError, match="is an index already"):
        import_index(tmp_path / "y.index", tmp_path / "theirs", encoder)


def test_vectors_of_another_model_are_refused(tmp_path, index):
    as_clip_retrieval(index, tmp_path / "theirs")
    with pytest.raises(ConfigError, match="tiny 1 didn't make the vectors of"):
        import_index(tmp_path / "y.index", tmp_path / "theirs", tiny.encoder(1))
    (tmp_path / "photos").rename(tmp_path / "moved")
    with pytest.warns(DataWarning, match="none of the pictures of .* is here"):
        import_index(tmp_path / "y.index", tmp_path / "theirs", tiny.encoder(1))


def test_an_import_that_ends_early_leaves_no_index(tmp_path, index, monkeypatch):
    as_clip_retrieval(index, tmp_path / "theirs")
    append, appended = writer.Appender.append, []

    def stopped(self, pictures, vectors):
        if appended:
            raise KeyboardInterrupt
        appended.append(len(pictures))
        append(self, pictures, vectors)

    with monkeypatch.context() as patched:
        patched.setattr(writer.Appender, "append", stopped)
        with pytest.raises(KeyboardInterrupt):
            import_index(tmp_path / "y.index", tmp_path / "theirs", tiny.encoder())
    assert appended == [7]
    assert import_index(tmp_path / "y.index", tmp_path / "theirs", tiny.encoder()) == 12


def test_vectors_without_a_direction_are_left_out(tmp_path, index):
    as_clip_retrieval(index, tmp_path / "theirs")
    file = tmp_path / "theirs/img_emb/img_emb_01.npy"
    vectors = np.load(file)
    vectors[1], vectors[2] = 0, np.nan
    np.save(file, vectors)
    assert import_index(tmp_path / "y.index", tmp_path / "theirs", tiny.encoder()) == 10
    found = Index.open(tmp_path / "y.index")
    assert named(found) == [*named(index)[:8], *named(index)[10:]]
    assert found.metadata.of(8)["caption"] == "caption 10"
    assert not found.damaged


def broken_text(file) -> None:
    """A caption that is no UTF-8, which Arrow doesn't look at by itself."""
    table = parquet.read_table(file)
    bytes_ = pyarrow.array([b"\xac"] * len(table)).view(pyarrow.string())
    parquet.write_table(table.set_column(1, "caption", bytes_), file)


@pytest.mark.parametrize(
    ("break_", "sentence"),
    [
        (lambda at: (at / "metadata/metadata_01.parquet").unlink(), "has no metadata/metadata_1"),
        (lambda at: np.save(at / "img_emb/img_emb_01.npy", np.ones((2, 128), "f4")), "tells of 5"),
        (lambda at: np.save(at / "img_emb/img_emb_01.npy", np.ones(5)), "no vectors"),
        (
            lambda at: np.save(at / "img_emb/img_emb_01.npy", np.ones((5, 3))),
            "vectors of 3 numbers",
        ),
        (lambda at: (at / "img_emb/img_emb_01.npy").write_bytes(b"x"), "can't be read"),
        (lambda at: (at / "metadata/metadata_01.parquet").write_bytes(b"x"), "can't be read"),
        (lambda at: (at / "img_emb").rename(at / "x"), "isn't clip-retrieval's"),
        (lambda at: broken_text(at / "metadata/metadata_01.parquet"), "can't be read"),
    ],
)
def test_what_doesnt_belong_together_is_said(tmp_path, index, break_, sentence):
    as_clip_retrieval(index, tmp_path / "theirs")
    break_(tmp_path / "theirs")
    with pytest.raises((DataError, ConfigError), match=sentence):
        import_index(tmp_path / "y.index", tmp_path / "theirs", tiny.encoder())
    assert not (tmp_path / "y.index").exists()
