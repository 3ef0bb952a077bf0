"""`diptych evaluate`."""

import csv
import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych import pretrained
from diptych.cli import evaluate as verb
from diptych.cli import main
from diptych.encoder import cache
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


def test_own_data_with_flags(place, capsys):
    tiny.save(place / "one")
    for path in tiny.write_pictures(place / "whole" / "train", each=6):
        tiny.picture(path.parent.name, seed=50 + int(path.stem)).save(path)
    tiny.write_pictures(place / "whole" / "test", each=3)
    common = ["one", "--data", "whole", "--cache", ""]
    for task in ("zero-shot", "linear"):
        more = ["--task", task, "--predictions", f"{task}.csv", "--out", "results/"]
        assert evaluate_with(*common, *more) == 0
        rows = list(csv.DictReader((place / f"{task}.csv").read_text().splitlines()))
        assert len(rows) == 12
        assert rows[0]["key"] == "whole/test/blue/0.png"
    assert "measured on the test part" in capsys.readouterr().out
    first, second = sorted(map(Result.load, (place / "results").glob("*.json")), key=len_of_task)
    assert (first.task, second.task) == ("linear", "zero-shot")
    assert evaluate_with(*common, "--task", "fewshot", "--shots", "1", "3") == 0
    assert "top1_3_shot" in capsys.readouterr().out
    assert evaluate_with(*common, "--task", "fewshot", "--shots", "8") == 2
    assert "ask for fewer shots (--shots)" in capsys.readouterr().err


def len_of_task(result):
    return len(result.task)


def test_the_flags_that_messages_name_are_there(place, capsys):
    tiny.save(place / "one")
    rows = [f"data/{colour}/0.png,a {colour} one" for colour in tiny.COLOURS]
    (place / "t.csv").write_text(
        "\n".join(["image,words", *rows, "hole.png,a hole", "gap.png,a gap"])
    )
    assert evaluate_with("one", "--data", "t.csv") == 2
    assert "named by --caption-key" in capsys.readouterr().err
    told = ["one", "--data", "t.csv", "--caption-key", "words"]
    assert evaluate_with(*told) == 2
    assert "allowed (--max-bad-share); the first one is" in capsys.readouterr().err
    assert evaluate_with(*told, "--max-bad-share", "0.5", "--predictions", "p.csv") == 2
    out, err = capsys.readouterr()
    assert "mean_recall" in out
    assert "no predictions of retrieval: --predictions are of zero-shot by vectors and of" in err
    many = ["one", "--tasks", "t.csv", *told[3:], "--max-bad-share", "0.5", "--out", "out"]
    assert evaluate_with(*many, "--predictions", "p") == 0
    assert "no predictions of t.csv: --predictions are of zero-shot" in capsys.readouterr().err


def test_names_for_each_task(place, capsys):
    tiny.save(place / "one")
    (place / "names.txt").write_text("navy blue\nlight green\ncrimson\ngold\n")
    tiny.write_pictures(place / "other")
    words = ["one", "--tasks", "data", "other", "--cache", "", "--out", "out"]
    assert evaluate_with(*words, "--class-names", "data=names.txt") == 0
    named = {result.data["name"]: result for result in map(Result.load, place.glob("out/*.json"))}
    assert named["data"].class_names[0] == "navy blue"
    assert named["other"].class_names[0] == "blue"
    assert "class names were taken in the order of the folders" in capsys.readouterr().err
    assert evaluate_with(*words, "--class-names", "dat=names.txt") == 2
    assert "no task is 'dat'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tasks", "data", "--out", "r.json"], "with --tasks --out is a folder"),
        (["--tasks", "data", "--out", "file"], "with --tasks --out is a folder"),
        (["--tasks", "data", "--predictions", "p.csv"], "with --tasks --predictions is a folder"),
        (["--data", "data", "--out", "file/r.json"], "nothing can be written into file (--out)"),
        (["--data", "data", "--predictions", "file/p.csv"], "into file (--predictions)"),
        (["--data", "data", "--cache", "file/c"], "nothing can be written into file/c (--cache)"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_before_the_work(place, capsys, arguments, sentence):
    (place / "file").write_text("")
    assert evaluate_with("no-such-model", *arguments) == 2
    assert sentence in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_serves_as_far_as_it_goes(place, capsys, monkeypatch):
    tiny.save(place / "one")
    arguments = ["one", "--cache", "cache", "--data"]
    assert evaluate_with(*arguments, "data", "--out", "r.json") == 0
    before = Result.load("r.json")
    [corrupt, *_] = sorted(place.glob("cache/vectors/texts/*/*.safetensors"))

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    check = verb.check_writable
    monkeypatch.setattr(
        verb,
        "check_writable",
        lambda folder, flag: refuse() if flag == "--cache" else check(folder, flag),
    )
    monkeypatch.setattr(cache, "write_file", refuse)
    assert evaluate_with(*arguments, "data", "--out", "again.json") == 0
    assert Result.load("again.json").metrics == before.metrics
    corrupt.write_bytes(b"no vectors")
    monkeypatch.setattr(Path, "unlink", refuse)
    capsys.readouterr()
    assert evaluate_with(*arguments, "data", "--out", "third.json") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "can't be written" in said[-1]
    assert "choose another --cache" in said[-1]


def test_a_result_into_a_folder_that_is_there_or_new(place):
    tiny.save(place / "one")
    assert evaluate_with("one", "--data", "data", "--out", ".", "--cache", "") == 0
    assert len(list(place.glob("one.data.crop.*.json"))) == 1
    assert evaluate_with("one", "--data", "data", "--out", "new", "--cache", "") == 0
    assert len(list((place / "new").glob("one.data.crop.*.json"))) == 1


def test_a_result_is_kept_where_nobody_reads_stdout(place):
    tiny.save(place / "one")
    command = [sys.executable, "-m", "diptych", "evaluate", "one", "--device", "cpu"]
    command += ["--data", "data", "--out", "r.json", "--cache", ""]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert Result.load("r.json").metrics
    assert "No space left on device" in done.stderr


def test_the_sets_that_are_known_are_listed(capsys):
    assert evaluate_with("--list") == 0
    out = capsys.readouterr().out
    assert "imagenet-sketch" in out
    assert "eva27" in out
    assert evaluate_with("--list", "--tasks", "cifar*,dtd") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["cifar10", "cifar100", "dtd"]
    assert "50" in lines[2] or "10,000" in lines[2]
