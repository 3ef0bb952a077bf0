"""`diptych evaluate`."""

from dataclasses import replace

import pytest
import torch

from diptych import zoo
from diptych.checkpoints import save_model
from diptych.cli import main
from diptych.evaluation import Result, evaluate
from diptych.models import build
from tests import tiny


def test_the_file_holds_what_python_gives(tmp_path, capsys):
    tiny.write_pictures(tmp_path / "data")
    (tmp_path / "names.txt").write_text("navy blue\nlight green\nred\nyellow\n")
    arguments = ["evaluate", tiny.save(tmp_path / "model"), "--data", tmp_path / "data", "--device", "cpu"]
    arguments += ["--class-names", tmp_path / "names.txt", "--templates", "openai-7", "--out", tmp_path / "r.json"]
    with pytest.raises(SystemExit) as error:
        main(list(map(str, arguments)))
    assert error.value.code == 0
    result = Result.from_json((tmp_path / "r.json").read_text())
    names = ["navy blue", "light green", "red", "yellow"]
    expected = evaluate(tiny.encoder(), "zero-shot", tmp_path / "data", class_names=names, templates="openai-7")
    assert result.metrics == expected.metrics
    assert result.confusion == expected.confusion
    assert result.model["name"] == str(tmp_path / "model")
    out = capsys.readouterr().out
    assert f"{result.metrics['top1']:.2%}" in out
    assert "navy blue" in out
    assert "top5" not in out, "with four classes it says nothing"


def test_by_tokens(tmp_path, capsys):
    torch.manual_seed(0)
    save_model(tmp_path / "model", build(replace(zoo.get("tiny"), token_dim=16)))
    tiny.write_pictures(tmp_path / "data", each=1)
    arguments = ["evaluate", tmp_path / "model", "--data", tmp_path / "data", "--device", "cpu"]
    for by in ("tokens", "tokens-as-published"):
        with pytest.raises(SystemExit) as error:
            main([*map(str, arguments), "--by", by, "--out", str(tmp_path / f"{by}.json")])
        assert error.value.code == 0
        assert "nearest word" in (tmp_path / f"{by}.json").read_text()
    with pytest.raises(SystemExit) as error:
        main([*map(str, arguments), "--by", "tokens", "--task", "retrieval"])
    assert error.value.code == 2
    assert "--by tokens is for zero-shot, not for retrieval" in capsys.readouterr().err
