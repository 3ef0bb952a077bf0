"""`diptych train`: what is named on the command line, ours or anybody's."""

import json
import sys

import pytest

from diptych import cli
from diptych.training import load_run, read_metrics
from tests import tiny

OWN = '''
from dataclasses import dataclass

from diptych.config import ClipObjectiveConfig, DataConfig, ObjectiveConfig, SourceConfig
from diptych.data import Source, open_source
from diptych.objectives import Losses, Objective
from diptych.objectives.contrastive import build_contrastive
from diptych import recipes


@dataclass(frozen=True, kw_only=True)
class CycleConfig(ObjectiveConfig):
    implementation = "own_things:Cycle"
    weight: float = 0.25


class Cycle(Objective):
    def __init__(self, config, model):
        super().__init__(model)
        self.config = config
        self.contrastive = build_contrastive(ClipObjectiveConfig(), model)

    def loss(self, features, peers):
        image, text = features["image"], features["text"]
        pairs = self.contrastive.loss(image, text, peers)
        cycle = (image @ text.T - text @ image.T).square().mean()
        total = pairs + self.config.weight * cycle
        metrics = {"loss": total.detach(), "cycle": cycle.detach()}
        return Losses(total, metrics | self.contrastive.metrics())

    def after_step(self, carry):
        self.contrastive.after_step()


@dataclass(frozen=True, kw_only=True)
class DotsConfig(SourceConfig):
    implementation = "own_things:Dots"
    count: int = 20


class Dots(Source):
    def __init__(self, config):
        self.inner = open_source(DataConfig(path=f"synthetic:{config.count}"))

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return self.inner[index]

    def where(self, index):
        return self.inner.where(index)

    def describe(self):
        return "dots"


@dataclass(frozen=True, kw_only=True)
class NeedyConfig(ObjectiveConfig):
    implementation = "own_things:Cycle"
    weight: float


def my_run():
    """Mine."""
    return recipes.get("tiny-digits")


not_a_recipe = 3
'''
DROPOUT = ("--model.text.patch-dropout", "0.5")
QUICK = ("--batch-size", "4", "--evaluation.path", "", "--data.workers", "0")


@pytest.fixture
def train(tmp_path, monkeypatch):
    (tmp_path / "own_things.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_things", raising=False)

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            cli.main(["train", *arguments])
        return done.value.code

    return run


@pytest.mark.parametrize("name", ["own_things.py:CycleConfig", "own_things:CycleConfig"])
def test_an_objective_and_a_source_of_ones_own(train, tmp_path, name):
    own = ("--objective", name, "--objective.weight", "0.5")
    source = ("--data.source", "own_things:DotsConfig", "--data.source.count", "12")
    assert not train("tiny-digits", *own, *source, *QUICK, "--steps", "2", "--out", "run")
    saved = json.loads((tmp_path / "run" / "run.json").read_text())
    assert saved["objective"] == {"type": "own_things:CycleConfig", "weight": 0.5}
    assert saved["data"]["source"] == {"type": "own_things:DotsConfig", "count": 12}
    assert "cycle" in read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert not train("--resume", "run", "--steps", "3")
    assert (tmp_path / "run" / "checkpoints" / "step-00000003").is_dir()


@pytest.mark.parametrize("name", ["clip", "siglip", "slip", "declip", "filip", "defilip"])
def test_ours_go_with_any_recipe(train, tmp_path, name):
    data = ("--data.path", "synthetic:20", "--out", "run")
    assert not train("tiny-digits", "--objective", name, *QUICK, *data, "--steps", "1")
    assert type(load_run(tmp_path / "run").objective).alias == name
    assert not train("--resume", "run", "--steps", "2")


def test_a_recipe_of_ones_own(train, tmp_path):
    options = ("--data.path", "synthetic:20", "--steps", "1", "--out", "run")
    assert not train("own_things.py:my_run", *QUICK, *options)
    assert (tmp_path / "run" / "checkpoints").is_dir()


def test_training_knobs_are_flags(train, tmp_path):
    options = ("--data.path", "synthetic:20", "--steps", "1", "--out", "run")
    assert not train("tiny-digits", *QUICK, *options, "--model.image.patch-dropout", "0.5")
    meta = json.loads((tmp_path / "run/checkpoints/step-00000001/model.json").read_text())
    assert "patch_dropout" not in meta["config"]["image"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tiny-digits", "--objective", "siglap"), "did you mean 'siglip'"),
        (("tiny-digits", "--objective", "missing_things:X"), "there is no module missing_things"),
        (("tiny-digits", "--objective", "own_things:CycleConfigs"), "did you mean 'CycleConfig'"),
        (("tiny-digits", "--objective", "own_things:Cycle"), "own_things:Cycle is no Objective"),
        (("tiny-digits", "--objective", "own_things:NeedyConfig"), "give its fields defaults"),
        (("tiny-digits", "--objective", "missing.py:X"), "there is no file missing.py"),
        (("tiny-digits", "--objective"), "--objective takes a name"),
        (("tiny-digits", "--data.source", "own_things:CycleConfig"), "is no SourceConfig"),
        (("own_things:not_a_recipe",), "is no recipe"),
        (("--resume", "run", "--objective", "clip"), "leave --objective out"),
        (
            ("tiny-digits", "--data.path", "synthetic:9", *QUICK, "--out", "run", *DROPOUT),
            "patch_dropout",
        ),
    ],
)
def test_mistakes_are_one_sentence(train, capsys, arguments, says):
    assert train(*arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


def test_a_name_beside_a_configuration_is_an_error(train, capsys):
    assert train("clip-unireplknet-l-laion2b-320", "--model.name", "vit-b-16") == 2
    assert "model.name vit-b-16 would be ignored" in " ".join(capsys.readouterr().err.split())


def test_code_beside_weights_is_not_run(tmp_path, monkeypatch, capsys):
    """What was downloaded into the current folder names a module of its own."""
    tiny.save(tmp_path / "evil")
    meta = json.loads((tmp_path / "evil" / "model.json").read_text())
    meta["config"]["image"] = {"type": "evil.payload:Config"}
    (tmp_path / "evil" / "model.json").write_text(json.dumps(meta))
    (tmp_path / "evil" / "payload.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as done:
        cli.main(["convert", "evil", "--out", "converted"])
    assert done.value.code == 2
    assert "there is no module evil" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
