"""`diptych search`: the table, the paths for other programs, the page."""

import os

import pytest

from diptych.cli import main
from diptych.search import Index, update
from tests import tiny


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as error:
        main([str(argument) for argument in arguments])
    assert isinstance(error.value.code, int)
    return error.value.code


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


def test_a_picture_that_has_gone_is_an_error(tmp_path, index, capsys):
    for path in (tmp_path / "photos" / "red").iterdir():
        path.unlink()
    assert call("search", index, "a", "--html", tmp_path / "grid.html", "--device", "cpu") == 2
    assert "can't be read any more (No such file or directory); embed" in capsys.readouterr().err
