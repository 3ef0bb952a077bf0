"""Texts are found as pictures are, and an index of them is brought up to date."""

import pytest
import torch

from diptych.errors import ConfigError, DataError
from diptych.search import Condition, Index, Where, update, update_texts
from tests import tiny

CSV = "id,year,caption\n1,2020,a red car\n2,2021,\n3,2022,a dog\n4,2023,a red car\n"


@pytest.fixture
def index(tmp_path):
    (tmp_path / "captions.csv").write_text(CSV)
    (tmp_path / "list.txt").write_text("a cat\r\n\nsnow\n", "utf-8-sig")
    update_texts(
        tmp_path / "x.index", [tmp_path / "captions.csv", tmp_path / "list.txt"], tiny.encoder()
    )
    return tmp_path / "x.index"


def texts(index) -> dict[str, str]:
    pictures = Index.open(index)._store.pictures()
    return {picture.path.rpartition("/")[2]: picture.text for picture in pictures}


ALL = {
    "captions.csv#1": "a red car",
    "captions.csv#3": "a dog",
    "captions.csv#4": "a red car",
    "list.txt#1": "a cat",
    "list.txt#3": "snow",
}


def test_texts_are_found_by_texts_and_pictures(tmp_path, index):
    encoder = tiny.encoder()
    opened = Index.open(index, encoder)
    assert texts(index) == ALL
    expected = encoder.embed_texts(list(ALL.values()))
    torch.testing.assert_close(opened.vectors, expected)
    [hit] = opened.search_text("a dog", top=1)
    assert (hit.picture.text, hit.score) == ("a dog", pytest.approx(1, abs=1e-5))
    picture = tiny.picture("red")
    [best, *_] = opened.search_image(picture)
    nearest = int((expected @ encoder.embed_images(picture)[0]).argmax())
    assert best.picture.text == list(ALL.values())[nearest]
    where = Where(conditions=(Condition.parse("year>2020"),))
    assert {hit.path.rpartition("#")[2] for hit in opened.search_text("x", where=where)} == {
        "3",
        "4",
    }
    assert opened.metadata.of(0) == {"id": 1, "year": 2020}


def test_what_was_there_keeps_its_vector(tmp_path, index, monkeypatch):
    encoder, asked = tiny.encoder(), list[str]()
    plain = encoder.embed_texts
    monkeypatch.setattr(encoder, "embed_texts", lambda texts: asked.extend(texts) or plain(texts))
    (tmp_path / "captions.csv").write_text("caption,year\na dog,1\na house,2\n")
    changes = update_texts(index, tmp_path / "captions.csv", encoder)
    assert asked == ["a house"]
    assert (changes.added, changes.removed) == (1, 2)
    assert texts(index) == {
        "captions.csv#1": "a dog",
        "captions.csv#2": "a house",
        "list.txt#1": "a cat",
        "list.txt#3": "snow",
    }
    opened = Index.open(index, encoder)
    by_text = {opened.picture(row).text: opened.metadata.of(row) for row in range(4)}
    assert [by_text[text].get("year") for text in ("a dog", "a house", "snow")] == [1, 2, None]
    generation = opened._store.meta.generation
    assert update_texts(index, tmp_path / "captions.csv", encoder).kept == 2
    assert Index.open(index)._store.meta.generation == generation
    [hit] = opened.search_text("a house", top=1)
    assert hit.picture.text == "a house"


@pytest.mark.parametrize(
    ("name", "text", "column", "error", "sentence"),
    [
        ("a.txt", "\n \n", "", DataError, "holds no texts"),
        ("a.txt", "x\n", "y", ConfigError, "is a list of texts, without columns"),
        ("a.csv", "a,b\n1,2\n", "", ConfigError, "no column of texts by a usual name, only a, b"),
        ("a.csv", "a,b\n1,2\n", "c", ConfigError, "has no column c, only a, b"),
        ("a.md", "x", "", DataError, "is no table"),
    ],
)
def test_what_holds_no_texts_is_said(tmp_path, name, text, column, error, sentence):
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=sentence):
        update_texts(tmp_path / "x.index", tmp_path / name, tiny.encoder(), column=column)
    assert not (tmp_path / "x.index").exists()


def test_pictures_and_texts_dont_mix(tmp_path, index):
    tiny.write_pictures(tmp_path / "photos", each=1)
    with pytest.raises(ConfigError, match="is an index of texts; pictures need another"):
        update(index, tmp_path / "photos", tiny.encoder())
    update(tmp_path / "p.index", tmp_path / "photos", tiny.encoder())
    with pytest.raises(ConfigError, match="is an index of pictures; texts need another"):
        update_texts(tmp_path / "p.index", tmp_path / "list.txt", tiny.encoder())
