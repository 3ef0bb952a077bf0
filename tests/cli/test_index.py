"""`diptych index`: out to other programs, and in again."""

import pytest

import diptych
from diptych.search import Index, update
from tests import tiny
from tests.cli.calls import call


def test_out_and_in_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny.save(tmp_path / "model")
    tiny.write_pictures(tmp_path / "photos", each=1)
    update("x.index", "photos", diptych.load(model, "cpu"))
    assert call("index", "export", "x.index", "--out", "out") == 0
    assert call("index", "import", model, "out", "--out", "y.index", "--device", "cpu") == 0
    assert capsys.readouterr().out.splitlines() == ["out", "y.index: 4 pictures"]
    assert Index.open("y.index").vectors.equal(Index.open("x.index").vectors)
    assert call("index", "export", "x.index", "--out", "out") == 2
    assert "out exists; choose another name" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--help",), 0), (("exprot",), 2)])
def test_its_verbs(arguments, code, capsys):
    assert call("index", *arguments) == code
    out, err = capsys.readouterr()
    assert "did you mean 'export'" in err if code else "diptych index import MODEL FOLDER" in out
