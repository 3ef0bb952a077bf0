"""`diptych classify`."""

import csv
import json
import math
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from diptych import models, pretrained
from diptych.cli import main
from diptych.weights import save_model
from tests import tiny

TEMPLATES = ["a photo of a {}."]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "model")
    tiny.write_pictures(tmp_path / "photos", each=1)
    return tmp_path


def classify(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["classify", "model", *map(str, arguments), "--device", "cpu"])
    return end.value.code


def test_the_table_has_the_encoders_numbers(place, capsys):
    assert classify("photos/red/0.png", "--names", "cat", "dog") == 0
    shares = tiny.encoder().classify("photos/red/0.png", ["cat", "dog"], TEMPLATES)
    vector = tiny.encoder().embed_images("photos/red/0.png")
    out = capsys.readouterr().out
    for name, share in shares.items():
        [line] = [line for line in out.splitlines() if f" {name} " in line]
        cosine = float(vector @ tiny.encoder().embed_texts(f"a photo of a {name}.").T)
        assert line.split()[-2:] == [f"{share:.1%}", f"{cosine:.3f}"]


def test_a_folder_and_a_file_of_names_into_a_table(place, capsys):
    (place / "names.txt").write_text("cat\nsea_horse\n")
    assert classify("photos", "--names", "names.txt", "--top", "1", "--out", "p.csv") == 0
    rows = list(csv.DictReader((place / "p.csv").read_text().splitlines()))
    assert [row["picture"] for row in rows] == [
        f"photos/{colour}/0.png" for colour in sorted(tiny.COLOURS)
    ]
    expected = tiny.encoder().classify(
        [row["picture"] for row in rows], ["cat", "sea horse"], TEMPLATES
    )
    for row, shares in zip(rows, expected):
        assert row["name"] == max(shares, key=lambda name: shares[name])
        assert float(row["probability"]) == pytest.approx(shares[row["name"]], abs=1e-5)
    assert classify("photos", "--names", "cat", "dog", "--out", "p.json") == 0
    values = json.loads((place / "p.json").read_text())
    assert len(values) == 8
    assert sorted(values[0]) == ["cosine", "name", "picture", "probability"]


def test_what_cannot_be_read_is_said_and_the_others_are_shown(place, capsys):
    (place / "broken.png").write_bytes(b"nothing")
    assert classify("nowhere.jpg", "photos/red/0.png", "broken.png", "--names", "a", "b") == 1
    out, err = capsys.readouterr()
    assert "photos/red/0.png" in out
    lines = [line for line in err.splitlines() if line.startswith("left out: ")]
    assert len(lines) == 2
    assert "nowhere.jpg" in lines[0]
    assert "broken.png" in lines[1]


@pytest.mark.parametrize("how", [("--names", "a", "b"), ("--examples", "photos")])
def test_where_nothing_can_be_read_nothing_is_written(place, capsys, how):
    (place / "old.csv").write_text("older\n")
    assert classify("nowhere.jpg", *how, "--out", "old.csv") == 2
    out, err = capsys.readouterr()
    assert "nowhere.jpg" not in out
    assert "probability" not in out
    assert "left out: nowhere.jpg doesn't exist" in err
    assert (place / "old.csv").read_text() == "older\n"


def test_of_a_shard_that_ends_within_its_first_picture_the_reason_is_said(place, capsys):
    with tarfile.open(place / "whole.tar", "w") as tar:
        tar.add(place / "photos" / "red" / "0.png", "0.png")
    assert (place / "photos" / "red" / "0.png").stat().st_size > 500
    (place / "cut").mkdir()
    (place / "cut" / "a.tar").write_bytes((place / "whole.tar").read_bytes()[:2000])
    for path in ("cut/a.tar", "cut"):
        assert classify(path, "--names", "a", "b") == 2
        err = capsys.readouterr().err
        assert "a.tar" in err
        assert "cut short at byte 2000, inside 0.png" in err
        assert "are used" not in err
        assert "holds no pictures" not in err


def test_a_single_name_is_always_certain_and_that_is_said(place, capsys):
    assert classify("photos/red/0.png", "--names", "cat") == 0
    out, err = capsys.readouterr()
    assert "100.0%" in out
    assert "of a single name (cat) the probability is always 1" in err


def test_a_model_with_a_bias_answers_for_each_name_by_itself(place, capsys):
    model = models.build(replace(pretrained.get("tiny"), logit_bias=-1.0))
    save_model("biased", model)
    with pytest.raises(SystemExit):
        main(["classify", "biased", "photos/red/0.png", "--names", "cat", "--out", "one.csv"])
    out, err = capsys.readouterr()
    assert "probability (sigmoid)" in out
    assert not err
    [row] = csv.DictReader(Path("one.csv").read_text().splitlines())
    cosine, scale = float(row["cosine"]), 1 / 0.07
    wanted = 1 / (1 + math.exp(-(scale * cosine - 1)))
    assert float(row["probability"]) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--names", "cat"), "say at least one picture"),
        (("photos", "--names", "cat", "--top", "0"), "--top 0 must be a number of at least 1"),
        (("photos", "--names", "cat", "cat"), "the name 'cat' stands twice"),
        (("photos", "--names", "nowhere.txt"), "nowhere.txt can't be read"),
        (("empty", "--names", "cat", "dog"), "empty holds no pictures"),
        (("photos", "--names", "cat", "dog", "--out", "p"), "ends in .csv or .json"),
        (("photos", "--names", "cat", "--out", "photos/red/0.png/p.csv"), "nothing can be written"),
        (("photos", "--names", "cat", "--templates", "a photo"), "where the class name goes"),
    ],
)
def test_a_request_that_does_not_fit_is_one_sentence(place, capsys, arguments, sentence):
    (place / "empty").mkdir()
    assert classify(*arguments) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err
