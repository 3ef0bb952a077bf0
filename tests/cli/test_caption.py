"""`diptych caption`."""

import csv
import json

import pytest
import torch

import diptych
from diptych import models
from diptych.cli import main
from diptych.config import ClipConfig
from diptych.families.coca import CocaDecoderConfig, CocaImageConfig, CocaTextConfig
from diptych.weights import save_model
from tests import tiny

SIZES = {"width": 16, "layers": 1, "heads": 2, "mlp_width": 32}
COCA = ClipConfig(
    image=CocaImageConfig(image_size=32, patch_size=16, queries=3, pool_heads=2, **SIZES),
    text=CocaTextConfig(context_length=12, **SIZES),
    decoder=CocaDecoderConfig(context_length=12, **SIZES),
    embed_dim=16,
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_model(tmp_path / "model", models.build(COCA))
    tiny.save(tmp_path / "plain")
    tiny.write_pictures(tmp_path / "photos", each=1)
    return tmp_path


def caption(*arguments, model="model"):
    with pytest.raises(SystemExit) as end:
        main(["caption", model, *map(str, arguments), "--device", "cpu"])
    return end.value.code


def test_the_table_has_the_encoders_captions(place, capsys):
    options = ("--most", "8", "--least", "3", "--beams", "1")
    assert caption("photos", *options, "--out", "p.csv") == 0
    rows = list(csv.DictReader((place / "p.csv").read_text().splitlines()))
    assert [row["picture"] for row in rows] == [
        f"photos/{colour}/0.png" for colour in sorted(tiny.COLOURS)
    ]
    encoder = diptych.load("model", device="cpu")
    wanted = encoder.caption([row["picture"] for row in rows], most=8, least=3, beams=1)
    assert [row["caption"] for row in rows] == wanted
    out = capsys.readouterr().out
    assert all(row["picture"] in out for row in rows)
    assert caption("photos/red/0.png", *options, "--out", "p.json") == 0
    [row] = json.loads((place / "p.json").read_text())
    assert row == {
        "picture": "photos/red/0.png",
        "caption": encoder.caption("photos/red/0.png", most=8, least=3, beams=1),
    }


def test_what_can_not_be_read_is_left_out_and_said(place, capsys):
    (place / "broken.png").write_bytes(b"no picture")
    arguments = ("nowhere.jpg", "photos/red/0.png", "broken.png", "--most", "8")
    assert caption(*arguments) == 1
    out, err = capsys.readouterr()
    assert "photos/red/0.png" in out
    assert "left out: nowhere.jpg" in err
    assert "left out: broken.png" in err


def test_where_nothing_can_be_read_nothing_is_written(place, capsys):
    (place / "p.csv").write_text("older\n")
    assert caption("nowhere.jpg", "--most", "8", "--out", "p.csv") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "left out: nowhere.jpg doesn't exist" in err
    assert (place / "p.csv").read_text() == "older\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "say at least one picture"),
        (("photos", "--most", "99"), "most 99: a caption has from 2 to 12 tokens"),
        (("photos", "--most", "5", "--least", "5"), "least 5 must lie from 0 to 4, below most"),
        (("photos", "--beams", "0"), "--beams 0 must be a number of at least 1"),
        (("photos", "--out", "p"), "ends in .csv or .json"),
    ],
)
def test_a_request_that_does_not_fit_is_one_sentence(place, capsys, arguments, sentence):
    assert caption(*arguments) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err


def test_a_model_that_writes_none_says_so(place, capsys):
    assert caption("photos", model="plain") == 2
    assert "writes no captions; CoCa's do" in capsys.readouterr().err
