"""`diptych benchmark objectives`."""

import json
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from diptych import experiments
from diptych.cli import main
from diptych.config import Run, SlipObjectiveConfig
from diptych.config.serialize import to_json
from diptych.errors import ConfigError
from diptych.experiments import ObjectivesConfig, compare_objectives
from diptych.experiments.comparison import compute
from diptych.experiments.comparison.compute import Step
from diptych.experiments.comparison.runs import Score
from diptych.experiments.objectives import compare, setting
from tests import tiny

SCORE = Score(
    variant="clip",
    seed=0,
    figures={"zero-shot": 0.5, "linear probe": 0.75},
    steps=20,
    samples=2560,
    epochs=1.0,
    loss=1.5,
    seconds=0.25,
    memory=900.0,
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


@pytest.fixture
def free(monkeypatch):
    """What a step costs is told without one."""
    monkeypatch.setattr(
        compute, "each_apart", lambda work, tasks, jobs=1: [(n, Step(1e12, 0.25)) for n in tasks]
    )


def test_an_objective_of_ones_own_has_runs_under_its_name(data):
    _, pictures, *_ = data
    name = "diptych.config:SlipObjectiveConfig"
    config = ObjectivesConfig(
        data=str(pictures), test=str(pictures), objectives=(name, "siglip"), shares=(1.0, 1 / 16)
    )
    shared = setting.prepare(config, Console(quiet=True))
    variants = shared.variants(config, 20)
    assert list(variants) == [
        *("SlipObjectiveConfig 1", "siglip 1", "SlipObjectiveConfig 1/16", "siglip 1/16"),
    ]
    run = variants["SlipObjectiveConfig 1/16"]
    assert (run.objective, run.steps, run.data.share) == (SlipObjectiveConfig(), 20, 1 / 16)
    assert shared.references(config) == {
        "siglip 1": "SlipObjectiveConfig 1",
        "siglip 1/16": "SlipObjectiveConfig 1/16",
    }


def test_two_shares_of_one_name_are_not_one_run():
    config = ObjectivesConfig(data="p", test="p", shares=(1 / 3, 0.33333))
    shared = setting.prepare(config, Console(quiet=True))
    with pytest.raises(ConfigError, match="two variants would be called 'clip 1/3'"):
        shared.variants(config, 20)


def test_what_is_measured_already_is_not_measured_again(data, free, tmp_path, capsys):
    for objective, share in (("clip", 0.5), ("filip", 0.25)):
        folder = tmp_path / "out" / "runs" / f"{objective}-0"
        folder.mkdir(parents=True)
        row = {"step": 20, "loss": 2.0, "evaluation": {"top1": share}}
        folder.joinpath("metrics.jsonl").write_text(json.dumps(row) + "\n")
        score = replace(SCORE, variant=objective, figures={"zero-shot": share})
        folder.joinpath("figures.json").write_text(json.dumps(asdict(score)))
    assert run(*data, "--steps", "20", "--seeds", "1", "--objectives", "clip", "filip") == 0
    out = capsys.readouterr().out
    assert "50.0 %" in out
    assert "25.0 %" in out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [score["figures"]["zero-shot"] for score in results["scores"]] == [0.5, 0.25]
    assert [one["steps"] for one in results["variants"].values()] == [20, 20]
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
    assert [score.figures["zero-shot"] for score in found.scores] == [0.25, 0.5]
    assert [row[0] for row in found.rows] == ["filip", "clip"]
    assert capsys.readouterr() == ("", "")


def test_steps_are_what_the_budget_pays_for(data, free, tmp_path, monkeypatch):
    trained = []

    def interrupted(variants, comparison, **__):
        trained.append((variants["clip"].steps, comparison.points))
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "compare_runs", interrupted)
    _, pictures, *_ = data
    config = ObjectivesConfig(
        data=str(pictures),
        test=str(pictures),
        budget=1.0,
        seeds=2,
        objectives=("clip", "slip"),
        out=str(tmp_path),
    )
    for asked in (config, replace(config, budget=2.0), replace(config, jobs=2, points=3)):
        with pytest.raises(KeyboardInterrupt):
            compare_objectives(asked)
    # 0.85 * 60 s over 2 seeds of 2 objectives of 0.25 s a step.
    assert trained == [(51, 10), (102, 10), (102, 3)]


def test_runs_with_another_number_of_steps_are_not_mixed(data, free, tmp_path, capsys):
    folder = tmp_path / "out" / "runs" / "clip-0"
    folder.mkdir(parents=True)
    folder.joinpath("run.json").write_text(to_json(Run(steps=20)))
    assert run(*data, "--steps", "30", "--seeds", "1", "--objectives", "clip", "slip") == 2
    assert "choose another --out" in capsys.readouterr().err


@pytest.mark.slow
def test_objectives_are_trained_measured_and_reported(data, tmp_path, capsys):
    assert run(*data, "--steps", "20", "--seeds", "2", "--objectives", "clip", "defilip") == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(score["variant"], score["seed"]) for score in results["scores"]] == [
        ("clip", 0),
        ("defilip", 0),
        ("clip", 1),
        ("defilip", 1),
    ]
    for score in results["scores"]:
        assert score["figures"]["linear probe"] > 0.9, "a line separates four colours"
        assert score["seconds"] > 0
        assert score["memory"] > 100
    assert (tmp_path / "out" / "report.html").read_text().count("<svg") >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--objectives", "clop"), "clip"),
        (("--shares", "1", "1"), "--shares takes different shares"),
        (("--shares", "0"), "shares"),
        (("--steps", "5"), "--steps 5 are too few to learn from: 20 or more"),
        (("--budget", "0.0001"), "0.0001 minutes are"),
        (("--objectives", "clip"), "two --objectives or more"),
        (("--objectives", "clip", "slip", "clip"), "takes each objective once"),
        (("--seeds", "0"), "--seeds 0 must be a number of at least 1"),
    ],
)
def test_what_cannot_be_is_said(data, free, arguments, message, capsys):
    assert run(*data, *arguments) != 0
    error = capsys.readouterr().err
    assert message in " ".join(error.replace("│", " ").split())
    assert "Traceback" not in error


def test_pictures_to_measure_with_are_needed(tmp_path, capsys):
    assert run("--data", tmp_path) != 0
    assert "--test" in capsys.readouterr().err


def compared(*arguments) -> int:
    with pytest.raises(SystemExit) as error:
        main(["benchmark", "runs", "tiny-cifar10", *map(str, arguments)])
    return error.value.code


ONE, TWO = ("--vary", "one:"), ("--vary", "two: --model.image.patch-dropout 0.5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (ONE, "two variants or more"),
        ((*ONE, "--vary", "two"), "is a name, a colon, and flags"),
        ((*ONE, *ONE), "two variants are called 'one'"),
        ((*ONE, "--vary", "two: --batch-size 64"), "differ in --batch-size (128 and 64)"),
        ((*ONE, "--vary", "two: --data.share 0.5"), "--differ data.share"),
        ((*ONE, "--vary", "two: --seed 3"), "see --seeds"),
        ((*ONE, *TWO, "--save.keep", "3"), "its --save.keep: leave it out"),
        ((*ONE, *TWO, "--evaluation.every-steps", "3"), "leave it out (see --points)"),
        ((*ONE, *TWO, "--seeds"), "--seeds needs a value behind it"),
        ((*ONE, *TWO, "--seeds", "9" * 5000), "is no number"),
        ((*ONE, *TWO, "--out", "x", "--equal", "time"), "neither samples nor flops"),
        ((*ONE, *TWO, "--seeds", "many"), "--seeds many is no number"),
        ((*ONE, *TWO, "--seeds", "0"), "--seeds 0 must be"),
        ((*ONE, *TWO, "--differ", "batch-size"), "--differ batch_size has no effect"),
        ((*ONE, "--vary", "two: --model.image.patch-drop 0.5"), "patch-drop"),
        ((*ONE, "--vary", "two: --steps '1"), "No closing quotation"),
    ],
)
def test_runs_that_cannot_be_compared_are_said(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compared(*arguments) != 0
    error = capsys.readouterr().err
    assert message in " ".join(error.replace("│", " ").split())
    assert "Traceback" not in error


def test_variants_are_a_recipe_and_flags(tmp_path, monkeypatch, capsys):
    given = {}

    def compare_runs(variants, config, console):
        given.update(variants=variants, config=config)
        raise ConfigError("enough")

    monkeypatch.setattr(experiments, "compare_runs", compare_runs, raising=False)
    flags = ("--steps", "30", "--seeds", "5", "--differ", "data.share,--batch-size")
    own = ("--vary", "one:", "--vary=two: --data.share 0.5 --batch-size 64", "--jobs", "2")
    assert compared(*flags, *own, "--equal=flops", "--out", tmp_path / "o") == 2
    one, two = given["variants"].values()
    assert (one.steps, two.steps, two.batch_size, two.data.share) == (30, 30, 64, 0.5)
    assert replace(two, data=one.data, batch_size=one.batch_size) == one
    config = given["config"]
    assert (config.seeds, config.jobs, config.equal) == (5, 2, "flops")
    assert config.differ == ("data.share", "batch_size")
    assert "enough" in capsys.readouterr().err


def test_help_of_both(capsys):
    for words, expected in ((["runs"], "--vary"), (["runs", "--help"], "--differ FLAG")):
        with pytest.raises(SystemExit):
            main(["benchmark", *words])
        assert expected in capsys.readouterr().out
