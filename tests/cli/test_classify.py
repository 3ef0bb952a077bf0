"""`diptych classify`."""

import pytest

from diptych.cli import main
from tests import tiny


def test_the_table_has_the_encoders_numbers(tmp_path, capsys):
    tiny.picture("red").save(tmp_path / "red.png")
    model = tiny.save(tmp_path / "model")
    with pytest.raises(SystemExit) as error:
        main(
            [
                "classify",
                str(model),
                str(tmp_path / "red.png"),
                "--names",
                "cat",
                "dog",
                "--device",
                "cpu",
            ]
        )
    assert error.value.code == 0
    shares = tiny.encoder().classify(tmp_path / "red.png", ["cat", "dog"], ["a photo of a {}."])
    out = capsys.readouterr().out
    for name, share in shares.items():
        [line] = [line for line in out.splitlines() if f" {name} " in line]
        assert f"{share:.1%}" in line


def test_no_picture_is_an_error(capsys):
    with pytest.raises(SystemExit) as error:
        main(["classify", "model", "--names", "cat"])
    assert error.value.code == 2
    assert "say at least one picture" in capsys.readouterr().err
