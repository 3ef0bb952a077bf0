"""`diptych app`, as far as it comes before it serves."""

import pytest

from diptych.app import App, listen
from diptych.search import update
from tests import tiny
from tests.cli.calls import call


@pytest.fixture
def index(tmp_path):
    tiny.save(tmp_path / "model")
    tiny.write_pictures(tmp_path / "photos", each=1)
    from diptych import load

    update(tmp_path / "x.index", tmp_path / "photos", load(tmp_path / "model"))
    return tmp_path / "x.index"


def sentence(capsys) -> str:
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


def test_the_address_is_printed_and_opens_the_index(index, tmp_path, monkeypatch, capsys):
    served = []
    monkeypatch.setattr(App, "serve", lambda *given: served.append(given))
    assert call("app", index, "--port", 0, "--cache", tmp_path / "kept") == 0
    said, address = capsys.readouterr().out.splitlines()
    [(app, door, listener)] = served
    assert said.startswith(f"{index}: 4 pictures.")
    assert address == f"http://127.0.0.1:{door.port}/?token={door.token}"
    assert (app.library.folder, listener.fileno()) == (str(index), -1)
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0


def test_other_machines_are_let_in_with_a_warning(index, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(App, "serve", lambda *_: None)
    assert call("app", index, "--port", 0, "--host", "0.0.0.0", "--cache", tmp_path / "kept") == 0
    printed = capsys.readouterr()
    assert "isn't encrypted" in printed.err
    assert "0.0.0.0" not in printed.out


def test_a_port_in_use_is_one_sentence_before_the_model_is_loaded(index, capsys):
    with listen("127.0.0.1", 0) as taken:
        assert call("app", index, "--port", taken.getsockname()[1]) == 2
    assert "is in use" in sentence(capsys)


def test_a_moved_model_or_index_is_one_sentence(index, tmp_path, monkeypatch, capsys):
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    assert call("app", index, "--port", 0) == 2
    assert "--model PLACE" in sentence(capsys)
    monkeypatch.setattr(App, "serve", lambda *_: None)
    model = tmp_path / "elsewhere"
    kept = tmp_path / "kept"
    assert call("app", index, "--port", 0, "--model", model, "--cache", kept) == 0
    capsys.readouterr()
    assert call("app", tmp_path / "y.index", "--port", 0) == 2
    assert "is not an index" in sentence(capsys)
    (index / "meta.json").write_text("{")
    assert call("app", index, "--port", 0) == 2
    assert "corrupt" in sentence(capsys)


def test_a_missing_extra_is_one_sentence(index, monkeypatch, capsys):
    monkeypatch.setattr("diptych.cli.app.find_spec", lambda name: None)
    assert call("app", index) == 2
    assert "pip install 'diptych[app]'" in sentence(capsys)
