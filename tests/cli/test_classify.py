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
from diptych.cli.classify import Classify
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
    tiny.write_pictures(place / "many", each=9)
    capsys.readouterr()
    assert classify("many", "--names", "cat", "dog", "--top", "1", "--out", "m.csv") == 0
    assert len((place / "m.csv").read_text().splitlines()) == 1 + 9 * len(tiny.COLOURS)
    assert capsys.readouterr().out.count("many/") == 20  # the table is a look at the file
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


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_prompts_of_each_class_from_a_file(place, capsys):
    prompts = {"cat": ["a cat", "a kitten on a sofa"], "dog": ["a dog"]}
    (place / "prompts.json").write_text(json.dumps(prompts))
    (place / "prompts.csv").write_text(
        "class,prompt\ncat,a cat\ncat,a kitten on a sofa\ndog,a dog\n"
    )
    expected = tiny.encoder().classify("photos/red/0.png", prompts)
    for file in ("prompts.json", "prompts.csv"):
        assert classify("photos/red/0.png", "--prompts", file, "--json") == 0
        [line] = lines(capsys)
        found = {each["name"]: each["probability"] for each in line["names"]}
        assert found == pytest.approx(expected, abs=1e-6)
        assert line["scores"] == "softmax"


def test_what_the_scores_are_is_said(place, capsys):
    arguments = ("photos/red/0.png", "--names", "cat", "dog", "--json")
    assert classify(*arguments, "--scores", "cosine") == 0
    [line] = lines(capsys)
    vector = tiny.encoder().embed_images("photos/red/0.png")[0]
    for each in line["names"]:
        assert sorted(each) == ["cosine", "name"]
        text = tiny.encoder().embed_texts(f"a photo of a {each['name']}.")[0]
        assert each["cosine"] == pytest.approx(float(vector @ text), abs=1e-6)
    assert line["scores"] == "cosine"
    assert classify(*arguments, "--scores", "sigmoid") == 2
    assert "wasn't trained with a sigmoid loss" in capsys.readouterr().err


def test_a_pictures_names_below_the_threshold_are_left_out_and_the_picture_is_not(place, capsys):
    arguments = ("photos", "--names", "cat", "dog", "--scores", "cosine", "--threshold", "1")
    assert classify(*arguments, "--json", "--out", "all.csv") == 0
    assert [line["names"] for line in lines(capsys)] == [[]] * 4
    rows = list(csv.reader((place / "all.csv").read_text().splitlines()))
    assert rows[0] == ["picture", "name", "cosine"]
    assert rows[1] == ["photos/blue/0.png", "", ""]
    assert len(rows) == 5


def test_tables_shards_and_patterns_in_order(place, capsys):
    names = ["photos/red/0.png", "photos/nowhere.png", "photos/blue/0.png"]
    rows = [f"{name},{number}" for number, name in enumerate(names)]
    (place / "list.csv").write_text("\n".join(["where,number", *rows]))
    with tarfile.open(place / "a.tar", "w") as tar:
        tar.add(place / "photos" / "green" / "0.png", "one.png")
    arguments = ("list.csv", "a.tar", "photos/*/0.png", "--image-key", "where", "--batch-size", "2")
    assert classify(*arguments, "--names", "cat", "dog", "--json") == 1
    out, err = capsys.readouterr()
    colours = sorted(tiny.COLOURS)
    assert [json.loads(line)["picture"] for line in out.splitlines()] == [
        *("photos/red/0.png", "photos/blue/0.png", "a.tar/one.png"),
        *(f"photos/{colour}/0.png" for colour in colours),
    ]
    assert "photos/nowhere.png" in err


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
        (("photos", "--names", "cat", "--prompts", "p.csv"), "either --names cat dog, --prompts"),
        (("photos", "--prompts", "nowhere.csv"), "nowhere.csv can't be read"),
        (("photos", "--prompts", "three.csv"), "isn't a class and a prompt"),
        (("photos", "--prompts", "blank.csv"), "or an empty one"),
        (("photos", "--prompts", "list.json"), "holds no prompts"),
        (("photos", "--examples", "photos", "--scores", "cosine"), "--scores cosine is for names"),
        (("blank.csv", "--names", "cat"), "has no picture column"),
    ],
)
def test_a_request_that_does_not_fit_is_one_sentence(place, capsys, arguments, sentence):
    (place / "empty").mkdir()
    (place / "three.csv").write_text("a,b,c\n")
    (place / "blank.csv").write_text("class,prompt\ncat,\n")
    (place / "list.json").write_text("[]")
    assert classify(*arguments) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("picture", "names", "says"),
    [
        ("photo", "cat", "left out: photo doesn't exist; did you mean photos?"),
        ("model", "cat", "diptych: model is a model, and no pictures"),
        ("phones", "cat", "diptych: phones holds no pictures that are read, only .heic 1"),
        ("photos", "cat,dog", "diptych: --names 'cat,dog' is a single name, of probability 1"),
        ("photos", "name.txt", "can't be read: No such file or directory; did you mean names.txt?"),
    ],
)
def test_what_is_mistaken_is_said_before_a_model_is_loaded(
    place, capsys, monkeypatch, picture, names, says
):
    (place / "phones").mkdir()
    (place / "phones" / "a.heic").write_bytes(b"x")
    (place / "names.txt").write_text("cat\ndog\n")
    monkeypatch.setattr(Classify, "load", None)
    assert classify(picture, "--names", names) == 2
    assert says in capsys.readouterr().err


def test_pictures_of_formats_that_are_not_read_are_counted(place, capsys):
    (place / "photos" / "a.heic").write_bytes(b"x")
    assert classify("photos", "--names", "cat", "dog") == 0
    assert capsys.readouterr().err == "not pictures that are read: .heic 1\n"
