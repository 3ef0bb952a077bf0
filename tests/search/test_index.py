"""Search is exact, and an index knows its model."""

import io

import pytest
import torch
from torch.nn.functional import normalize

from diptych.encoder import Identity
from diptych.errors import CheckpointError, ConfigError, DataError, ImageError
from diptych.search import Index, meta, writer
from diptych.search.pictures import Picture
from tests import tiny


def vector_index(folder, vectors: torch.Tensor, kind="float32") -> Index:
    model = Identity(name="nothing", dtype="fp32", fingerprint="f")
    folder.mkdir(exist_ok=True)
    writer.create(folder, meta.IndexMeta(model=model, width=vectors.shape[1], vectors=kind))
    pictures = [Picture(path=f"/p/{i}.jpg", size=1, mtime_ns=1) for i in range(len(vectors))]
    with writer.Appender(folder) as appender:
        appender.append(pictures, vectors)
    return Index.open(folder)


def random(*shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(0)), dim=-1)


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_equals_sorting_all_scores(tmp_path, kind):
    index = vector_index(tmp_path, random(300, 8), kind)
    query = random(301, 8)[-1]
    scores = index.vectors.float() @ query
    best = scores.argsort(descending=True, stable=True)[:10]
    hits = index.search(query, top=10)
    assert [hit.path for hit in hits] == [f"/p/{row}.jpg" for row in best]
    assert [hit.score for hit in hits] == pytest.approx(scores[best].tolist())
    index.hold()
    assert index.search(query, top=10) == hits


def test_equals_come_in_the_order_of_the_index(tmp_path):
    vectors = torch.eye(2)[[0, 1, 0, 0, 1, 0, 0, 0]]
    hits = vector_index(tmp_path, vectors).search(torch.tensor([1.0, 0.0]), top=4)
    assert [hit.path for hit in hits] == ["/p/0.jpg", "/p/2.jpg", "/p/3.jpg", "/p/5.jpg"]


def test_several_queries_find_what_each_finds(tmp_path):
    index = vector_index(tmp_path, random(50, 8))
    queries = random(56, 8)[50:]
    assert index.search_many(queries, top=3) == [index.search(each, top=3) for each in queries]
    assert index.search_many([]) == []


def test_asking_for_more_than_there_are_gives_all(tmp_path):
    assert len(vector_index(tmp_path / "a", random(3, 4)).search(random(4), top=10)) == 3
    assert vector_index(tmp_path / "b", torch.zeros(0, 4)).search(random(4)) == []


def test_a_query_that_does_not_fit_is_an_error(tmp_path):
    index = vector_index(tmp_path, random(3, 4))
    with pytest.raises(ConfigError, match=r"shape \(5,\); the index holds \[4\]"):
        index.search(random(5))
    with pytest.raises(ConfigError, match="top 0"):
        index.search(random(4), top=0)
    with pytest.raises(DataError, match="no picture cta.jpg"):
        index.search("cta.jpg")


def test_texts_pictures_and_vectors_find_the_same_way(tmp_path):
    paths = tiny.write_pictures(tmp_path / "photos")
    encoder = tiny.encoder()
    index = Index.build(tmp_path / "x.index", tmp_path / "photos", encoder)
    assert len(index) == 12
    [hit] = index.search(paths[5], top=1)
    assert hit.path == str(paths[5])
    assert hit.score == pytest.approx(1.0, abs=1e-5)
    for query, vector in (
        (str(paths[5]), encoder.embed_images(paths[5])),
        ("a thing", encoder.embed_texts("a thing")),
    ):
        found, expected = index.search(query, top=12), index.search(vector[0], top=12)
        assert [h.path for h in found] == [h.path for h in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-6)
    assert hit.picture.read().startswith(b"\x89PNG")


def test_what_strangers_type_opens_no_file(tmp_path, monkeypatch):
    index = vector_index(tmp_path / "x.index", random(3, 128))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "env.sh").write_text("secret")
    encoder = tiny.encoder()
    index = Index(index._store, encoder)
    for text in ("env.sh", "/etc/passwd", "dog.jpg", "https://example.com/cat"):
        expected = index.search(encoder.embed_texts(text)[0])
        assert [hit.path for hit in index.search_text(text)] == [hit.path for hit in expected]
    with pytest.raises(ImageError):
        index.search("env.sh")
    picture = tiny.picture("red")
    [best, *_], [same, *_] = (
        index.search_image(picture),
        index.search(encoder.embed_images(picture)[0]),
    )
    assert best.path == same.path


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "the query is empty"),
        (" \n", "the query is empty"),
        ("https://example.com/cat", "is a URL"),
        ("./photos", "is a folder"),
    ],
)
def test_what_is_neither_a_text_nor_a_picture_is_said(tmp_path, monkeypatch, query, sentence):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    index = Index(vector_index(tmp_path / "x.index", random(3, 128))._store, tiny.encoder())
    with pytest.raises((ConfigError, DataError), match=sentence):
        index.search(query)


def test_the_median_is_of_all_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr("diptych.search.index._ROWS", 2)
    vectors = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
    index = vector_index(tmp_path, vectors)
    assert index.median_score(torch.tensor([1.0, 0.0])) == pytest.approx(0.6)


def test_an_index_loads_its_own_model(tmp_path):
    tiny.write_pictures(tmp_path / "photos")
    checkpoint = tiny.save(tmp_path / "model")
    from diptych import load

    built = Index.build(tmp_path / "x.index", tmp_path / "photos", load(checkpoint, "cpu"))
    opened = Index.open(tmp_path / "x.index", device="cpu")
    assert opened.made_by.name == str(checkpoint)
    assert opened.search("a dog") == built.search("a dog")


def test_a_model_that_changed_is_an_error(tmp_path):
    tiny.write_pictures(tmp_path / "photos")
    from diptych import load

    Index.build(
        tmp_path / "x.index", tmp_path / "photos", load(tiny.save(tmp_path / "model"), "cpu")
    )
    tiny.save(tmp_path / "model", seed=1)
    with pytest.raises(CheckpointError, match="has changed since"):
        Index.open(tmp_path / "x.index", device="cpu").search("a dog")


def test_shards_are_searched_too(tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for colour in tiny.COLOURS:
            stream = io.BytesIO()
            tiny.picture(colour).save(stream, "PNG")
            info = tarfile.TarInfo(f"{colour}.png")
            info.size = stream.tell()
            stream.seek(0)
            tar.addfile(info, stream)
    index = Index.build(tmp_path / "x.index", tmp_path / "a.tar", tiny.encoder())
    [hit] = index.search(tiny.encoder().embed_images(tiny.picture("green"))[0], top=1)
    assert hit.path == f"{tmp_path}/a.tar/green.png"
    [again] = index.search(hit.path, top=1)
    assert (again.path, again.score) == (hit.path, pytest.approx(1.0, abs=1e-5))
    with pytest.raises(DataError, match=r"there is no picture x\.png in .*a\.tar"):
        index.search(f"{tmp_path}/a.tar/x.png")
    assert hit.picture.read().startswith(b"\x89PNG")
