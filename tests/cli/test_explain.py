"""`diptych explain`."""

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.cli import main
from tests import tiny


@pytest.fixture
def explain(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "model")
    tiny.write_pictures(tmp_path / "photos", each=1)

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["explain", "model", *map(str, arguments), "--device", "cpu"])
        return end.value.code, *capsys.readouterr()

    return call


def numbers(file):
    with np.load(file) as found:
        return dict(found)


def test_numbers_are_the_encoders_and_the_table_says_where_they_are_highest(explain):
    code, out, _ = explain("photos", "a red one", "a cat", "--out", "maps.npz")
    assert code == 0
    found = numbers("maps.npz")
    names = [f"photos/{colour}/0.png" for colour in sorted(tiny.COLOURS)]
    assert found["pictures"].tolist() == names
    assert found["texts"].tolist() == ["a red one", "a cat"]
    wanted = diptych.load("model", device="cpu").explain(names, ["a red one", "a cat"])
    assert np.allclose(found["maps"], wanted.numpy(), atol=1e-6)
    row, column = divmod(int(found["maps"][0, 0].argmax()), 3)
    [line] = [line for line in out.splitlines() if names[0] in line]
    assert f"{(column + 0.5) / 3:.2f}, {(row + 0.5) / 3:.2f}" in line


def test_a_picture_has_the_square_and_a_map_for_each_text(explain):
    code, _, _ = explain("photos/red/0.png", "a $cat$", "a dog", "--out", "maps.png")
    assert code == 0
    picture = Image.open("maps.png").convert("RGB")
    assert picture.width > 2.5 * picture.height  # three squares side by side
    levels = np.asarray(picture).astype(int)
    square = levels[picture.height // 2 :, : picture.width // 3].reshape(-1, 3)
    seen = square[square.min(1) < 200]  # without the white around it
    assert np.abs(np.median(seen, axis=0) - tiny.COLOURS["red"]).max() < 25


def test_what_can_not_be_read_is_left_out_and_said(explain, tmp_path):
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    code, _, err = explain("photos", "red", "--out", "maps.npz")
    assert code == 1
    assert "left out: " in err
    assert "broken.png" in err
    assert len(numbers("maps.npz")["maps"]) == len(tiny.COLOURS)


def test_a_row_whose_picture_is_missing_stops_no_other(explain, tmp_path):
    (tmp_path / "t.csv").write_text("png,label\nphotos/red/0.png,a\nnowhere.png,b\n")
    code, out, err = explain("t.csv", "red", "--out", "maps.npz")
    assert code == 1
    assert "left out: " in err
    assert "nowhere.png" in err
    assert "red/0.png" in out


def test_the_ending_is_read_in_any_letter_case(explain):
    assert explain("photos/red/0.png", "red", "--out", "maps.PNG")[0] == 0
    with Image.open("maps.PNG") as picture:
        assert picture.format == "PNG"
    assert explain("photos/red/0.png", "red", "--out", "maps.NPZ")[0] == 0
    assert numbers("maps.NPZ")["texts"].tolist() == ["red"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("photos", "--out", "maps.png"), "say at least one text"),
        (("photos", "red", "--out", "maps"), "say a file that ends in .png"),
        (("nowhere.png", "red", "--out", "maps.png"), "nowhere.png doesn't exist"),
        (("photos/red", *["red"] * 200, "--out", "maps.png"), "is 1 x 201, and a figure holds 200"),
        (("many", "red", "--out", "maps.PDF"), "is 201 x 2, and a figure holds 200"),
        (
            ("six", *["red"] * 199, "--out", "maps.svg"),
            "is 6 x 200, and a figure holds 200",
        ),
    ],
)
def test_a_request_that_does_not_fit_is_one_sentence(explain, arguments, sentence, tmp_path):
    for folder, count in (("many", 201), ("six", 6)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / f"{number}.png").hardlink_to(tmp_path / "photos" / "red" / "0.png")
    code, _, err = explain(*arguments)
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err
