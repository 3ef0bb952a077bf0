"""`diptych evaluate`."""

from dataclasses import replace

import pytest
import torch

from diptych import pretrained
from diptych.cli import main
from diptych.evaluation import Result, evaluate
from diptych.models import build
from diptych.weights.native import save_model
from tests import tiny


def test_the_file_holds_what_python_gives(tmp_path, capsys):
    tiny.write_pictures(tmp_path / "data")
    (tmp_path / "names.txt").write_text("navy blue\nlight green\nred\nyellow\n")
    arguments = [
        "evaluate",
        tiny.save(tmp_path / "model"),
        "--data",
        tmp_path / "data",
        "--device",
        "cpu",
    ]
    arguments += ["--cache", tmp_path / "cache"]
    arguments += [
        "--class-names",
        tmp_path / "names.txt",
        "--templates",
        "openai-7",
        "--out",
        tmp_path / "r.json",
    ]
    with pytest.raises(SystemExit) as error:
        main(list(map(str, arguments)))
    assert error.value.code == 0
    result = Result.from_json((tmp_path / "r.json").read_text())
    names = ["navy blue", "light green", "red", "yellow"]
    expected = evaluate(
        tiny.encoder(), "zero-shot", tmp_path / "data", class_names=names, templates="openai-7"
    )
    assert result.metrics == expected.metrics
    assert result.confusion == expected.confusion
    assert result.model["name"] == str(tmp_path / "model")
    out = capsys.readouterr().out
    assert f"{result.metrics['top1']:.2%}" in out
    assert "navy blue" in out
    assert "top5" not in out, "with four classes it says nothing"


def test_by_tokens(tmp_path, capsys):
    torch.manual_seed(0)
    save_model(tmp_path / "model", build(replace(pretrained.get("tiny"), token_dim=16)))
    tiny.write_pictures(tmp_path / "data", each=1)
    arguments = ["evaluate", tmp_path / "model", "--data", tmp_path / "data", "--device", "cpu"]
    for by in ("tokens", "tokens-as-published"):
        with pytest.raises(SystemExit) as error:
            main([*map(str, arguments), "--by", by, "--out", str(tmp_path / f"{by}.json")])
        assert error.value.code == 0
        assert "nearest word" in (tmp_path / f"{by}.json").read_text()
        tasks = ["--tasks", str(tmp_path / "data"), "--out", str(tmp_path / by)]
        with pytest.raises(SystemExit) as error:
            main(["evaluate", str(tmp_path / "model"), *tasks, "--by", by, "--device", "cpu"])
        assert error.value.code == 0
        [path] = (tmp_path / by).glob("*.json")
        assert Result.load(path).metrics == Result.load(tmp_path / f"{by}.json").metrics
    with pytest.raises(SystemExit) as error:
        main([*map(str, arguments), "--by", "tokens", "--task", "retrieval"])
    assert error.value.code == 2
    assert "--by tokens is for zero-shot, not for retrieval" in capsys.readouterr().err


def evaluate_with(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "--device", "cpu", *map(str, arguments)])
    return end.value.code


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write_pictures(tmp_path / "data")
    return tmp_path


def test_models_by_tasks_and_again(place, capsys):
    models = [tiny.save(place / "one", 0), tiny.save(place / "two", 1)]
    arguments = [
        *models,
        "--tasks",
        "data,synthetic:16",
        "--resize",
        "both",
        "--cache",
        "cache",
        "--out",
        "out",
    ]
    assert evaluate_with(*arguments) == 0
    files = sorted((place / "out").glob("*.json"))
    assert len(files) == 8
    result = Result.from_json(
        next(f for f in files if f.name.startswith("one.data.squash.")).read_text()
    )
    expected = evaluate(tiny.encoder(0), "zero-shot", "data", templates="simple", resize="squash")
    assert result.metrics == expected.metrics
    out = capsys.readouterr().out
    assert "two, crop" in out
    assert str(files[0].relative_to(place)) in out
    assert evaluate_with(*arguments, "--together", "1") == 0
    assert "8 of 8 results were there already" in capsys.readouterr().err


def test_what_fails_is_listed_and_the_exit_code_says_so(place, capsys):
    tiny.save(place / "one")
    code = evaluate_with(
        "one", "nowhere", "--tasks", "missing.tar", "data", "--cache", "", "--out", "out"
    )
    assert code == 1
    out, err = capsys.readouterr()
    assert len(list((place / "out").glob("*.json"))) == 1
    assert "failed: nowhere, data" in err
    assert err.count("missing.tar doesn't exist") == 1
    assert len([line for line in err.splitlines() if line.startswith("failed: ")]) == 3
    assert "Traceback" not in err
    assert "top1" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "say which model"),
        (["one"], "say either --tasks"),
        (["one", "--tasks", "data", "--data", "data"], "say either --tasks"),
        (["one", "--tasks", ","], "at least one task"),
        (["one", "two", "--data", "data"], "for more: --tasks data"),
    ],
)
def test_a_request_that_does_not_fit_is_one_sentence(place, capsys, arguments, sentence):
    assert evaluate_with(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1


def test_the_sets_that_are_known_are_listed(capsys):
    assert evaluate_with("--list") == 0
    out = capsys.readouterr().out
    assert "imagenet-sketch" in out
    assert "eva27" in out
    assert evaluate_with("--list", "--tasks", "cifar*,dtd") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["cifar10", "cifar100", "dtd"]
    assert "50" in lines[2] or "10,000" in lines[2]
