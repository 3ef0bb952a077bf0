"""`diptych embed` and `diptych search`, from a folder to pictures found."""

import pytest

from diptych.cli import main
from tests import tiny


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as error:
        main([str(argument) for argument in arguments])
    assert isinstance(error.value.code, int)
    return error.value.code


@pytest.fixture
def photos(tmp_path):
    tiny.write_pictures(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def model(tmp_path):
    return tiny.save(tmp_path / "model")


def test_the_second_time_the_index_knows_its_model(tmp_path, photos, model, capsys):
    index = tmp_path / "x.index"
    assert call("embed", model, photos, "--out", index, "--device", "cpu") == 0
    assert (
        capsys.readouterr().out
        == f"{index}: 12 added, 0 changed, 0 removed, 0 kept, 0 unreadable\n"
    )
    tiny.picture("red", 9).save(photos / "new.png")
    (photos / "blue" / "0.png").unlink()
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    assert call("embed", photos, "--out", index, "--device", "cpu") == 0
    out, err = capsys.readouterr()
    assert out == f"{index}: 1 added, 0 changed, 1 removed, 11 kept, 1 unreadable\n"
    assert "left out: " in err
    assert "bad.jpg" in err


def test_the_model_can_be_a_flag(tmp_path, photos, model, capsys):
    assert (
        call(
            "embed",
            photos,
            "--model",
            model,
            "--out",
            tmp_path / "x.index",
            "--half",
            "--device",
            "cpu",
        )
        == 0
    )
    assert "12 added" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["photos", "--out", "x.index"], "x.index is new, so say which model makes it"),
        (["--out", "x.index"], "say one model and a place"),
    ],
)
def test_what_is_missing_is_said(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert call("embed", *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_another_model_is_refused(tmp_path, photos, model, capsys):
    index = tmp_path / "x.index"
    assert call("embed", model, photos, "--out", index, "--device", "cpu") == 0
    assert (
        call("embed", tiny.save(tmp_path / "other", 1), photos, "--out", index, "--device", "cpu")
        == 2
    )
    assert "can't be mixed" in capsys.readouterr().err
