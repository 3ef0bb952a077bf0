"""`diptych reinforce`, and what it refuses in one sentence."""

import pytest

from diptych.data import write_shards
from diptych.training import load_run
from tests import tiny
from tests.cli.calls import call
from tests.encoder.test_reinforce import samples


@pytest.fixture
def shards(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_shards(tmp_path / "shards", samples(5))
    return tmp_path / "shards"


def test_vectors_of_two_teachers_are_stored_and_the_second_call_finds_them(
    tmp_path, shards, capsys
):
    models = [tiny.save(tmp_path / f"model {seed}", seed) for seed in (1, 2)]
    command = ("reinforce", shards, "--teacher", *models, "--out", tmp_path / "store")
    command = (*command, "--crops", 2, "--device", "cpu", "--data.augment.flip", 0.5)
    assert call(*command) == 0
    out, err = capsys.readouterr()
    of = ", ".join(f"{model} (128)" for model in models)
    assert out.endswith(f"store: 5 samples, 2 crops of each, by {of}, in float16\n")
    assert f"--objective distill --objective.reinforced {tmp_path / 'store'}" in err
    assert call(*command) == 0
    assert "5 samples, 5 of them were there, 2 crops" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--teacher", "nobody"], "no model is called 'nobody'"),
        (["--teacher", "nowhere/run"], "nowhere/run"),
        (["--teacher", "MODEL", "MODEL"], "are the same model: name each once"),
        (["--teacher"], "there is no teacher: name one or several"),
        (["--teacher", "MODEL", "--crops", "0"], "--crops 0 must be a number of at least 1"),
        (["--teacher", "MODEL", "--data.augment.crops", "4"], "--crops says how many there are"),
        (["--teacher", "MODEL", "--data.words.delete", "0.5"], "teachers read whole captions"),
        (["--teacher", "MODEL", "--data.caption-key", "said"], "no caption: none of said"),
        (["--teacher", "MODEL", "--data.path", "x"], "SHARDS say where the pairs are"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(tmp_path, shards, capsys, flags, sentence):
    model = tiny.save(tmp_path / "model")
    flags = [str(model) if flag == "MODEL" else flag for flag in flags]
    assert call("reinforce", shards, *flags, "--out", tmp_path / "store", "--device", "cpu") == 2
    [said] = capsys.readouterr().err.splitlines()
    assert sentence in said
    assert not (tmp_path / "store" / "store.json").exists()


def test_training_takes_the_stores_crops_unless_others_are_typed(tmp_path, shards, capsys):
    model = tiny.save(tmp_path / "model")
    crops = ("--crops", 2, "--data.augment.scale", 0.5, 1, "--data.augment.flip", 0.5)
    store = tmp_path / "store"
    assert call("reinforce", shards, "--teacher", model, "--out", store, *crops) == 0
    command = ("train", "tests.training.runs:small", "--data.path", shards, "--batch-size", 4)
    command = (*command, "--steps", 2, "--out", tmp_path / "run", "--objective", "distill")
    assert call(*command, "--objective.reinforced", store, "--data.augment.flip", 0.1) == 2
    assert "--data.augment.scale 0.5 1.0 --data.augment.flip 0.5" in capsys.readouterr().err
    assert call(*command) == 2
    assert "has no teacher: name one or several" in capsys.readouterr().err
    assert call(*command, "--objective.reinforced", tmp_path / "none") == 2
    assert (
        "say where they are by --objective.reinforced, or make them with" in capsys.readouterr().err
    )
    assert call(*command, "--objective.reinforced", store) == 0
    augment = load_run(tmp_path / "run").data.augment
    assert (augment.scale, augment.flip, augment.crops) == ((0.5, 1.0), 0.5, 2)
