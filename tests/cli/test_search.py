"""`diptych search`: the table, the paths for other programs, the page."""

import json
import os
from pathlib import Path

import pytest

from diptych.cli import main
from diptych.search import Index, Query, update
from tests import tiny
from tests.cli.calls import call


@pytest.fixture
def index(tmp_path):
    import diptych

    tiny.write_pictures(tmp_path / "photos")
    Index.build(
        tmp_path / "x.index",
        tmp_path / "photos",
        diptych.load(tiny.save(tmp_path / "model"), "cpu"),
    )
    return tmp_path / "x.index"


def test_paths_for_other_programs(index, capsysbinary):
    assert (
        call("search", index, "a red thing", "--top", "3", "--paths-only", "--device", "cpu") == 0
    )
    out, err = capsysbinary.readouterr()
    expected = Index.open(index, device="cpu").search("a red thing", 3)
    assert out.decode().splitlines() == [hit.path for hit in expected]
    assert err == b""


def test_a_picture_finds_itself_and_the_page_shows_it(tmp_path, index, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "grid.html"
    assert call("search", index, "photos/red/1.png", "--html", page, "--device", "cpu") == 0
    out, _ = capsys.readouterr()
    assert "photos/red/1.png" in out.splitlines()[1]
    assert "1.0000" in out.splitlines()[1]
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 12
    assert "photos/red/1.png" in text


def test_file_names_that_are_no_text(tmp_path, index, capsysbinary):
    strange = os.fsdecode(b"caf\xe9\n.png")
    tiny.picture("red", 3).save(tmp_path / "photos" / "plain.png")
    os.rename(tmp_path / "photos" / "plain.png", tmp_path / "photos" / strange)
    import diptych

    update(index, tmp_path / "photos", diptych.load(tmp_path / "model", "cpu"))
    assert call("search", index, "a", "--top", "13", "--paths-only", "--device", "cpu") == 0
    assert b"caf\xe9\n.png\n" in capsysbinary.readouterr().out
    assert call("search", index, "a", "--top", "13", "--device", "cpu") == 0


def test_a_picture_that_has_gone_is_a_placeholder(tmp_path, index, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "photos" / "red").iterdir():
        path.unlink()
    page = tmp_path / "grid.html"
    assert call("search", index, "a thing", "--html", page, "--device", "cpu") == 0
    assert capsys.readouterr().out.count("(gone)") == 3
    text = page.read_text()
    assert text.count("the picture is gone") == 3
    assert text.count("data:image/jpeg;base64,") == 9


def test_the_page_says_what_was_asked_of_what(tmp_path, index):
    page = tmp_path / "grid.html"
    assert call("search", index, "a thing", "--html", page, "--top", "2", "--device", "cpu") == 0
    text = page.read_text()
    assert text.count("“a thing”</h1>") == 1
    for part in ("nearest 2 of 12 pictures", "2. score", "median score", "cosine", "(fp32)"):
        assert part in text
    [best, _] = Index.open(index, device="cpu").search("a thing", 2)
    assert f'<a href="{Path(best.path).as_uri()}">' in text


def test_a_model_that_has_moved_is_named(tmp_path, index, capsys):
    (tmp_path / "model").rename(tmp_path / "moved")
    assert call("search", index, "a", "--device", "cpu") == 2
    assert "which isn't there any more; if it has moved, say where" in capsys.readouterr().err
    moved = ("--model", tmp_path / "moved", "--device", "cpu")
    assert call("search", index, "a", "--top", "3", *moved) == 0
    assert call("embed", tmp_path / "photos", "--out", index, *moved) == 0
    assert call("search", index, "a", "--top", "3", "--device", "cpu") == 0


def test_names_end_with_nul_for_other_programs(index, capsysbinary):
    assert call("search", index, "a", "--top", "3", "--null", "--device", "cpu") == 0
    expected = Index.open(index, device="cpu").search("a", 3)
    assert capsysbinary.readouterr().out.decode().split("\0")[:-1] == [hit.path for hit in expected]


def test_a_page_that_cant_be_written_is_refused_before_the_search(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as error:
        main(["search", "no.index", "red", "--html", str(tmp_path / "file" / "page.html")])
    assert error.value.code == 2
    assert "(--html): Not a directory" in " ".join(capsys.readouterr().err.split())


def test_a_query_of_several_and_a_threshold(tmp_path, index, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("2:photos/red/1.png", "+", "a thing", "-", "0.5:photos/blue/1.png")
    assert call("search", index, *words, "--json", "--threshold", "-1", "--device", "cpu") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["query"] == " ".join(words)
    expected = Index.open(index, device="cpu").search(Query.from_words(words), 12)
    assert [hit["path"] for hit in found["hits"]] == [hit.path for hit in expected]
    assert found["hits"][0]["score"] == pytest.approx(expected[0].score, abs=1e-5)
    high = f"{expected[2].score + 1e-6:.6f}"
    assert call("search", index, *words, "--json", "--threshold", high, "--device", "cpu") == 0
    assert len(json.loads(capsys.readouterr().out)["hits"]) in (2, 3)
    assert call("search", index, "a", "--threshold", "1", "--device", "cpu") == 0
    assert "nothing reaches the score 1 for a" in capsys.readouterr().err


def test_queries_of_a_file_in_one_pass(tmp_path, index, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "queries.txt").write_text("a thing\r\n\nphotos/red/1.png\n", "utf-8-sig")
    flags = ("--queries", "queries.txt", "--top", "1", "--device", "cpu")
    assert call("search", index, *flags, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["query"] for line in lines] == ["a thing", "photos/red/1.png"]
    assert lines[1]["hits"][0]["path"] == str(tmp_path / "photos/red/1.png")
    assert call("search", index, *flags) == 0
    table = capsys.readouterr().out
    assert "photos/red/1.png" in table.splitlines()[3]
    monkeypatch.setattr("diptych.cli.search._PART", 1)
    assert call("search", index, *flags) == 0
    assert capsys.readouterr().out == table
    os.mkfifo("pipe.png")
    assert call("search", index, "--queries", "pipe.png") == 2
    assert "--queries pipe.png can't be read: it is no regular file" in capsys.readouterr().err
    assert call("search", index, "pipe.png") == 2
    assert "pipe.png is no regular file" in capsys.readouterr().err
    assert call("search", "a thing", index) == 2
    assert f"the index comes first: `diptych search {index} 'a thing'`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "say what to look for, once"),
        (("a", "--queries", "x.txt"), "say what to look for, once"),
        (("--queries", "x.txt", "--null"), "are for one query"),
        (("--queries", "empty.txt"), "is empty: write a query a line"),
        (("a", "b"), "stand side by side"),
        (("https://example.org/a.png",), "nothing is fetched unless asked for: add --fetch"),
        (("file:///a.png", "--fetch"), "only http:// and https:// are"),
        (("a", "--threshold", "2"), "--threshold 2.0 must be a number from -1 to 1"),
    ],
)
def test_what_cant_be_looked_for_is_said(tmp_path, index, capsys, monkeypatch, flags, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    assert call("search", index, *flags, "--device", "cpu") == 2
    assert sentence in capsys.readouterr().err


def test_filters_and_what_is_known_of_what_is_found(tmp_path, index, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "years.csv").write_text("file,year\nred/0.png,2020\nred/1.png,2021\n")
    assert call("embed", "photos", "--out", index, "--metadata", "years.csv") == 0
    assert "years.csv: year of 2 pictures" in capsys.readouterr().err
    flags = ("--json", "--device", "cpu")
    asked = ("--in", "photos/red", "--where", "year>=2020", "year<2021", "--after", "2000")
    assert call("search", index, "a thing", *flags, *asked, "--larger", "1000P") == 0
    [hit] = json.loads(capsys.readouterr().out)["hits"]
    assert hit["path"] == str(tmp_path / "photos/red/0.png")
    assert hit["metadata"] == {"year": 2020, "width": 40, "height": 30}
    for nothing in (("--before", "2000"), ("--smaller", "1b"), ("--in", "none")):
        assert call("search", index, "a thing", *flags, *nothing) == 0
        assert "of its 12 pictures, none is such as the filters ask for" in capsys.readouterr().err
    assert call("search", index, "a thing", *flags, "--where", "yaer=2") == 2
    assert "did you mean 'year'" in capsys.readouterr().err
    assert call("embed", "photos", "--out", index, "--metadata", "none.csv") == 2
    assert "there is no table none.csv" in capsys.readouterr().err


def test_an_approximate_search_says_its_recall(tmp_path, index, capsys):
    arguments = ("search", index, tmp_path / "photos/red/1.png", "--approximate", "--top", "1")
    for made in (True, False):
        assert call(*arguments, "--device", "cpu", "--paths-only") == 0
        out, err = capsys.readouterr()
        assert out == f"{tmp_path}/photos/red/1.png\n"
        assert "recall@10 1.000" in err
        assert ("and was made" in err) == made
    assert call(*arguments, "--in", "photos", "--device", "cpu") == 2
    assert "filters are for the exact search" in capsys.readouterr().err
