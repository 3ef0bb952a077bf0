"""How a query is spelt, and the vector it has."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from diptych.errors import ConfigError, DataError, ImageError
from diptych.search import Index, Query, Term
from diptych.search.query import encode
from tests import tiny
from tests.search.test_index import random, vector_index


def terms(query: Query) -> list[tuple]:
    return [(term.what, term.weight) for term in query.terms]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a red seven"], [("a red seven", 1)]),
        (
            ["2:red car", "+", "beach", "-", "0.5: snow"],
            [("red car", 2), ("beach", 1), ("snow", -0.5)],
        ),
        (["-", "snow"], [("snow", -1)]),
        (["+", "snow"], [("snow", 1)]),
        (["16:9 monitor"], [("16:9 monitor", 1)]),
        (["C++ - the book"], [("C++ - the book", 1)]),
        (["2: 3 balloons"], [("3 balloons", 2)]),
    ],
)
def test_words(words, expected):
    assert terms(Query.from_words(words)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a red seven", [("a red seven", 1)]),
        ("  2:red car + beach - 0.5:snow ", [("red car", 2), ("beach", 1), ("snow", -0.5)]),
        ("- snow", [("snow", -1)]),
        ("a t-shirt, C++ and R+D", [("a t-shirt, C++ and R+D", 1)]),
        ("black +\twhite", [("black", 1), ("white", 1)]),
    ],
)
def test_a_line(line, expected):
    assert terms(Query.from_text(line)) == expected


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the query is empty"),
        (["  "], "the query is empty"),
        (["2: "], "the query is empty"),
        (
            ["red", "car"],
            "'red' and 'car' stand side by side: put a text of several words in quotes",
        ),
        (["red", "+"], r"nothing stands after \+ in"),
        (["red", "+", "-", "car"], r"nothing stands between \+ and - in"),
        (["0:red"], "the weight 0 of red must be a number other than 0"),
    ],
)
def test_what_is_no_query_is_said(words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Query.from_words(words)


@pytest.mark.parametrize("line", ["", " \n", "red +", "red + - car", "+", "0:red"])
def test_a_line_that_is_no_query_is_said(line):
    with pytest.raises(ConfigError):
        Query.from_text(line)


@pytest.mark.parametrize("words", [["2:red car", "+", "a.png", "-", "0.25:snow"], ["-", "snow"]])
def test_a_query_is_printed_as_it_was_typed(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.picture("red").save("a.png")
    assert str(Query.from_words(words)) == " ".join(words)


def test_files_are_pictures_in_words_and_texts_in_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.picture("red").save("a.png")
    Path("photos").mkdir()
    assert terms(Query.from_words(["2:a.png", "+", "x"])) == [(Path("a.png"), 2), ("x", 1)]
    line = "2:a.png + b.png + ./photos + https://example.org/a.png"
    texts = [("a.png", 2), ("b.png", 1), ("./photos", 1), ("https://example.org/a.png", 1)]
    assert terms(Query.from_text(line)) == texts
    for word, sentence in (
        ("b.png", "no picture b.png"),
        ("./photos", "is a folder"),
        ("https://me:secret@example.org/a.png", r"https://example.org/a.png is a URL.* --fetch"),
    ):
        with pytest.raises(DataError, match=sentence):
            Query.from_words(["x", "-", word])


def test_a_vector_is_the_sum_of_weighted_unit_vectors():
    encoder = tiny.encoder()
    picture, vector = tiny.picture("red"), torch.arange(128.0)
    query = Query((Term("a car", 2.0), Term(picture, -0.5), Term(vector, 3.0), Term("snow")))
    [alone, found] = encode([Query((Term("snow"),)), query], lambda: encoder, 128)
    car, snow = encoder.embed_texts(["a car", "snow"])
    image = encoder.embed_images(picture)[0]
    expected = 2 * car - 0.5 * image + 3 * normalize(vector, dim=0) + snow
    torch.testing.assert_close(found, normalize(expected, dim=0))
    torch.testing.assert_close(alone, snow)


def test_what_was_subtracted_is_far(tmp_path):
    paths = tiny.write_pictures(tmp_path / "photos")
    index = Index.build(tmp_path / "x.index", tmp_path / "photos", tiny.encoder())
    red, blue = str(tmp_path / "photos/red/1.png"), str(paths[0])
    hits = index.search(Query.from_words([red, "-", blue]), top=12)
    assert {Path(hit.path).parent.name for hit in hits[:3]} == {"red"}
    assert hits[-1].path == blue or Path(hits[-1].path).parent.name == "blue"
    together = index.search_many(["a thing", Path(red), index.vectors[3].clone()], top=2)
    assert [[hit.path for hit in some] for some in together] == [
        [hit.path for hit in index.search(each, top=2)]
        for each in ("a thing", Path(red), index.vectors[3].clone())
    ]


@pytest.mark.parametrize("most", [1e38, 1e-300])
def test_only_the_ratios_of_weights_count(most):
    red, snow = torch.eye(2)
    [found] = encode([Query((Term(red, most), Term(snow, -most / 2)))], tiny.encoder, 2)
    torch.testing.assert_close(found, normalize(torch.tensor([1.0, -0.5]), dim=0))


def test_terms_that_cancel_out_are_said():
    with pytest.raises(ConfigError, match="the terms of snow - snow cancel out"):
        encode([Query.from_text("snow - snow")], tiny.encoder, 128)
    with pytest.raises(ConfigError, match="not finite"):
        encode([Query((Term(torch.tensor([float("nan"), 1])),))], tiny.encoder, 2)
    with pytest.raises(ConfigError, match="cancel out"):
        encode([Query((Term(torch.zeros(2)),))], tiny.encoder, 2)


def test_a_picture_that_cant_be_read_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="a.png"):
        encode([Query.from_words(["x", "+", str(tmp_path / "a.png")])], tiny.encoder, 128)
    with pytest.raises(ImageError, match="the upload"):
        encode([Query((Term(b"none", called="the upload"),))], tiny.encoder, 128)


def test_only_what_reaches_the_threshold_is_found(tmp_path):
    index = vector_index(tmp_path, random(300, 8))
    query = random(301, 8)[-1]
    hits = index.search(query, top=300, threshold=0.4)
    assert hits == [hit for hit in index.search(query, top=300) if hit.score >= 0.4]
    assert 0 < len(hits) < 100
    assert index.search(query, threshold=1.0) == []
