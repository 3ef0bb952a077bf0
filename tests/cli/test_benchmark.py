"""`diptych benchmark objectives`."""

import json
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from diptych.cli import main
from diptych.config import Run, SlipObjectiveConfig
from diptych.config.serialize import to_json
from diptych.experiments import ObjectivesConfig, compare_objectives
from diptych.experiments.objectives import compare, setting, table
from diptych.experiments.objectives.runs import Score
from tests import tiny

SCORE = Score(
    objective="clip", seed=0, zero_shot=0.5, probe=0.75, retrieval=None, seconds=0.25, memory=900.0
)


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as error:
        main(["benchmark", "objectives", *map(str, arguments)])
    return error.value.code


@pytest.fixture
def data(tmp_path):
    tiny.write_pictures(tmp_path / "data", each=40)
    names = tmp_path / "names.txt"
    names.write_text("navy blue\nlight green\nred\nyellow\n")
    pictures = tmp_path / "data"
    return "--data", pictures, "--test", pictures, "--class-names", names, "--out", tmp_path / "out"


def test_a_line_an_objective_with_its_interval():
    other = replace(SCORE, objective="slip", retrieval=0.1)
    lines = table.rows(
        [SCORE, other, replace(SCORE, seed=1, zero_shot=0.6, seconds=0.3, memory=1000.0)]
    )
    assert lines[0] == ["clip", "55.0 ± 63.5 %", "75.0 ± 0.0 %", "—", "0.275", "1,000 MB"]
    assert lines[1][0] == "slip"
    assert lines[1][3] == "10.0 %"


def test_an_objective_of_ones_own_has_runs_under_its_name(data, tmp_path):
    _, pictures, *_ = data
    name = "diptych.config:SlipObjectiveConfig"
    config = ObjectivesConfig(data=str(pictures), test=str(pictures), objectives=(name, "siglip"))
    shared = setting.prepare(config, Console(quiet=True))
    run = shared.with_objective(name, 1, tmp_path, 20)
    assert run.objective == SlipObjectiveConfig()
    assert run.out == str(tmp_path / "SlipObjectiveConfig-1")


def test_what_is_measured_already_is_not_measured_again(data, tmp_path, capsys):
    for objective, share in (("clip", 0.5), ("filip", 0.25)):
        folder = tmp_path / "out" / "runs" / f"{objective}-0"
        folder.mkdir(parents=True)
        row = {"step": 20, "evaluation": {"top1": share}}
        folder.joinpath("metrics.jsonl").write_text(json.dumps(row) + "\n")
        folder.joinpath("score.json").write_text(
            json.dumps(asdict(replace(SCORE, objective=objective, zero_shot=share)))
        )
    assert run(*data, "--steps", "20", "--seeds", "1", "--objectives", "clip", "filip") == 0
    out = capsys.readouterr().out
    assert "50.0 %" in out
    assert "25.0 %" in out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [score["zero_shot"] for score in results["scores"]] == [0.5, 0.25]
    assert results["steps"] == 20
    assert "Objectives, side by side" in (tmp_path / "out" / "report.html").read_text()

    _, pictures, *_ = data
    config = ObjectivesConfig(
        data=str(pictures),
        test=str(pictures),
        steps=20,
        seeds=1,
        objectives=("filip", "clip"),
        out=str(tmp_path / "out"),
    )
    found = compare_objectives(config)
    assert [score.zero_shot for score in found.scores] == [0.25, 0.5]
    assert [row[0] for row in found.rows] == ["filip", "clip"]
    assert capsys.readouterr() == ("", "")


def test_the_number_of_steps_is_kept_when_the_benchmark_goes_on(data, tmp_path, monkeypatch):
    measured, trained = [0.5, 0.25], []

    def interrupted(shared, config, steps, console):
        trained.append(steps)
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "seconds_of_a_step", lambda *_: measured.pop(0))
    monkeypatch.setattr(compare, "compete", interrupted)
    _, pictures, *_ = data
    config = ObjectivesConfig(
        data=str(pictures), test=str(pictures), budget=1.0, seeds=1, out=str(tmp_path)
    )
    for again in (config, config, replace(config, budget=2.0)):
        with pytest.raises(KeyboardInterrupt):
            compare_objectives(again)
    assert trained == [102, 102, 408]


def test_runs_with_another_number_of_steps_are_not_mixed(data, tmp_path, capsys):
    folder = tmp_path / "out" / "runs" / "clip-0"
    folder.mkdir(parents=True)
    folder.joinpath("run.json").write_text(to_json(Run(steps=20)))
    assert run(*data, "--steps", "30", "--seeds", "1", "--objectives", "clip") == 2
    assert "holds a run of 20 steps, and this one has 30" in capsys.readouterr().err


@pytest.mark.slow
def test_objectives_are_trained_measured_and_reported(data, tmp_path, capsys):
    assert run(*data, "--steps", "20", "--seeds", "2", "--objectives", "clip", "defilip") == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(score["objective"], score["seed"]) for score in results["scores"]] == [
        ("clip", 0),
        ("defilip", 0),
        ("clip", 1),
        ("defilip", 1),
    ]
    for score in results["scores"]:
        assert score["probe"] > 0.9, "a line separates four colours"
        assert score["seconds"] > 0
        assert score["memory"] > 100
    assert (tmp_path / "out" / "report.html").read_text().count("<svg") >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--objectives", "clop"), "clip"),
        (("--steps", "5"), "too few to learn from"),
        (("--seeds", "0"), "--seeds 0 must be a number of at least 1"),
    ],
)
def test_what_cannot_be_is_said(data, arguments, message, capsys):
    assert run(*data, *arguments) != 0
    error = capsys.readouterr().err
    assert message in " ".join(error.replace("│", " ").split())
    assert "Traceback" not in error


def test_pictures_to_measure_with_are_needed(tmp_path, capsys):
    assert run("--data", tmp_path) != 0
    assert "--test" in capsys.readouterr().err
