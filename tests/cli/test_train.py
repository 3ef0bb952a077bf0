"""`diptych train`: what is named on the command line, ours or anybody's."""

import json
import sys

import pytest

from diptych import cli, pretrained, recipes
from diptych.cli.train import new_run
from diptych.training import load_run, read_metrics
from tests import tiny

OWN = '''
from dataclasses import dataclass, replace

from diptych.config import (
    ClipObjectiveConfig, DataConfig, ModelConfig, ObjectiveConfig, SourceConfig
)
from diptych.data import Source, open_source
from diptych.objectives import Losses, Objective
from diptych.objectives.contrastive import build_contrastive
from diptych import pretrained, recipes


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


def joined():
    """Of data that isn't there."""
    run = recipes.get("tiny-digits")
    return replace(run, data=replace(run.data, path="a.tar::b*.tar"), recipe="mine")


def my_model():
    """With a configuration of its own."""
    run = recipes.get("tiny-digits")
    config = replace(pretrained.get("tiny"), embed_dim=8)
    return replace(run, model=ModelConfig(custom=config))


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


@pytest.mark.parametrize(
    "name",
    [
        *("clip", "siglip", "filip", "defilip"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("slip", "declip")),
    ],
)
def test_ours_go_with_any_recipe(train, tmp_path, name):
    data = ("--data.path", "synthetic:20", "--out", "run")
    assert not train("tiny-digits", "--objective", name, *QUICK, *data, "--steps", "1")
    assert type(load_run(tmp_path / "run").objective).alias == name
    assert not train("--resume", "run", "--steps", "2")


def test_a_recipe_of_ones_own(train, tmp_path):
    options = ("--data.path", "synthetic:20", "--steps", "1", "--out", "run")
    assert not train("own_things.py:my_run", *QUICK, *options)
    assert (tmp_path / "run" / "checkpoints").is_dir()


def test_a_recipe_whose_own_data_is_absent_says_where_it_comes_from(train, capsys):
    whence = "`diptych train tiny-digits --help` says where the recipe's data comes from"
    assert train("tiny-digits") == 2
    assert f"demo/data/train/000000.tar doesn't exist: {whence}" in capsys.readouterr().err
    assert train("own_things.py:joined") == 2
    assert capsys.readouterr().err == "diptych: a.tar doesn't exist\n"
    for named in (("--data.path", "a*.tar"), ("--evaluation.path", "b.tar")):
        data = () if "--data.path" in named else ("--data.path", "synthetic:200")
        assert train("tiny-digits", *named, *data, "--data.workers", "0") == 2
        said = capsys.readouterr().err
        assert f"{named[1]} doesn't exist" in said
        assert whence not in said


def test_training_knobs_are_flags(train, tmp_path):
    options = ("--data.path", "synthetic:20", "--steps", "1", "--out", "run")
    assert not train("tiny-digits", *QUICK, *options, "--model.image.patch-dropout", "0.5")
    meta = json.loads((tmp_path / "run/checkpoints/step-00000001/model.json").read_text())
    assert "patch_dropout" not in meta["config"]["image"]


def test_a_recipe_s_own_name_is_no_other_s():
    """Of names that some model has as well, such as DeCLIP's `clip_vit_b_32`."""
    models = {name: pretrained.identify(name) for name in recipes.names()}
    shared = [name for name, model in models.items() if model and model.name != name]
    assert "clip-vit-b-32" in shared
    for name in shared:
        assert new_run(name.replace("-", "_"), []) == recipes.get(name)


@pytest.mark.parametrize("name", ["yfcc15m_vit_declip", "EVA02-CLIP-B-16"])
def test_a_published_model_s_recipe_is_found_by_any_of_its_names(name):
    assert new_run(name, []).recipe in ("declip-vit-b-32-yfcc15m", "eva02-clip-b-16")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tiny-digits", "--objective", "siglap"), "did you mean 'siglip'"),
        (("tiny-digits", "--objective", "missing_things:X"), "there is no module missing_things"),
        (("tiny-digits", "--objective", "own_things:CycleConfigs"), "did you mean 'CycleConfig'"),
        (("tiny-digits", "--objective", "own_things:Cycle"), "own_things:Cycle is no Objective"),
        (("tiny-digits", "--objective", "own_things:NeedyConfig"), "give its fields defaults"),
        (("tiny-digits", "--objective", "missing.py:X"), "there is no file missing.py"),
        (("tiny-digits", "--objective"), "--objective needs a value behind it"),
        (("tiny-digits", "--objective", ""), "--objective needs a value behind it"),
        (("tiny-digits", "--objective="), "--objective needs a value behind it"),
        (("tiny-digits", "--data.source", "own_things:CycleConfig"), "is no SourceConfig"),
        (("own_things:not_a_recipe",), "is no recipe"),
        (("--resume", "run", "--objective", "clip"), "leave --objective out"),
        (("tiny-digits", "--resume", "latest"), "behind a recipe it is --resume-if-any"),
        (("tiny-digits", "--train-data=x.tar"), "`python -m diptych.compat.open_clip_train` takes"),
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


SHORT = (*QUICK, "--data.path", "synthetic:20", "--out", "run")


@pytest.mark.parametrize(
    ("recipe", "flags", "steps"),
    [
        ("tiny-digits", ("--epochs", "2"), 10),
        ("tiny-digits", ("--epochs=0.4",), 2),
        ("clip-vit-b-32", ("--steps", "3"), 3),
        ("clip-vit-b-32", ("--steps", "3", "--epochs", "0"), 3),
    ],
)
def test_the_length_that_is_typed_counts(train, tmp_path, recipe, flags, steps):
    """20 pairs are five batches of four an epoch; tiny-digits says steps, clip-vit-b-32 epochs."""
    tiny_model = ("--model.name", "tiny", "--precision", "fp32")
    assert not train(recipe, *SHORT, *tiny_model, *flags)
    assert (tmp_path / "run" / "checkpoints" / f"step-{steps:08d}").is_dir()
    assert not train("--resume", "run", "--epochs", "3")
    assert (tmp_path / "run" / "checkpoints" / "step-00000015").is_dir()


def test_two_lengths_are_an_error(train, capsys):
    assert train("tiny-digits", *SHORT, "--steps", "3", "--epochs", "2") == 2
    assert "--epochs has no effect: --steps 3 says how long to train" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["tiny-digits", "tiny-cifar10"])
@pytest.mark.parametrize("kind", ["pairs.csv", "pictures", "own_things:DotsConfig"])
def test_a_recipe_takes_other_data_as_it_is(train, tmp_path, capsys, recipe, kind):
    """Class names, prompts and evaluation of a recipe are of its own data."""
    pictures = tiny.write_pictures(tmp_path / "pictures", each=3)
    lines = [f"{picture},a {picture.parent.name} thing" for picture in pictures]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption", *lines]))
    flag = "--data.source" if ":" in kind else "--data.path"
    options = ("--batch-size", "4", "--data.workers", "0", "--steps", "1", "--out", "run")
    assert not train(recipe, flag, kind, *options)
    said = capsys.readouterr().err
    assert "left out, as they are of the recipe's own data: " in said
    assert "evaluation.path, evaluation.class_names, evaluation.templates" in said
    run = load_run(tmp_path / "run")
    assert run.evaluation.paths == ()
    assert (run.data.class_names, run.data.templates) == ("", ("a photo of a {}.",))


def test_what_is_typed_beside_other_data_counts(train, tmp_path):
    tiny.write_pictures(tmp_path / "pictures", each=3)
    measured = ("--evaluation.path", "pictures", "--evaluation.templates", "a {} thing")
    options = (*QUICK[:2], *QUICK[4:], "--data.path", "pictures", "--steps", "1", "--out", "run")
    assert not train("tiny-digits", *options, *measured)
    evaluation = load_run(tmp_path / "run").evaluation
    assert (evaluation.paths, evaluation.class_names) == (("pictures",), "")
    assert evaluation.templates == ("a {} thing",)
    assert "top1" in read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["evaluation"]


def test_a_name_takes_the_place_of_a_recipes_own_configuration(train, tmp_path):
    assert not train("own_things.py:my_model", *SHORT, "--steps", "1", "--model.name", "tiny")
    meta = json.loads((tmp_path / "run/checkpoints/step-00000001/model.json").read_text())
    assert meta["config"]["embed_dim"] == 128
    assert load_run(tmp_path / "run").model.custom is None


def test_typed_weights_bring_their_model(train, tmp_path):
    """tiny-cifar10 names another model than the one that these weights are of."""
    donor = tiny.save(tmp_path / "donor")
    size = ("--model.image.size", "64")
    assert not train("tiny-cifar10", *SHORT, "--steps", "1", "--model.init", str(donor), *size)
    config = json.loads((tmp_path / "run/checkpoints/step-00000001/model.json").read_text())
    assert config["config"]["image"]["image_size"] == 64
    assert config["config"]["image"]["patch_size"] == 16


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--optim.momentum", "0.5"), "--optim.momentum has no effect: it is of --optim.name sgd"),
        (("--optim.name", "sgd", "--optim.eps", "1e-8"), "--optim.eps has no effect"),
        (
            ("--save.every-epochs", "1", "--save.every-steps", "5"),
            "--save.every-steps has no effect: --save.every-epochs 1 says when",
        ),
        (("--evaluation.class-names", "x.txt"), "--evaluation.class-names has no effect"),
        (("--evaluation.limit=5",), "nothing is measured without --evaluation.path"),
        (("--data.strong.blur", "0.1"), "--data.strong.blur has no effect: the objective asks"),
        (("--data.words.hide", "0.1"), "--data.words.hide has no effect"),
        (("--objective", "filip", "--data.augment.flip", "0.5"), "--data.augment.flip has no"),
        (("--optim.schedule", "constant", "--optim.final_lr", "0.1"), "--optim.final-lr has no"),
        (("--data.upsample", "2"), "--data.upsample has no effect: --data.path names one source"),
    ],
    ids=str,
)
def test_a_flag_without_effect_is_refused(train, tmp_path, capsys, flags, says):
    assert train("tiny-digits", *SHORT, "--steps", "1", *flags) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_flag_with_effect_is_not(train):
    assert not train("tiny-digits", *SHORT, "--steps", "1", "--data.augment.flip", "0.5")


def test_a_mixture_says_its_shares_and_goes_on_with_others(train, capsys):
    mixed = ("--data.path", "synthetic:90::synthetic:10", "--data.upsample", "1", "2")
    assert not train("tiny-digits", *SHORT, *mixed, "--batch-size", "10", "--steps", "1")
    assert "source 2, synthetic:10: 10 samples, 18.2 % of every batch (1 or 2 of 10), 0.2 epo" in (
        capsys.readouterr().err
    )
    assert not train("--resume", "run", "--data.weights", "1", "1", "--steps", "2")
    said = capsys.readouterr().err
    assert "data.weights none -> 1.0 1.0, data.upsample 1.0 2.0 -> none, steps" in said
    assert "source 2, synthetic:10: 10 samples, 50 % of every batch (5 of 10), 0.7 epochs" in said


def test_the_same_command_starts_and_goes_on(train, tmp_path, capsys):
    command = ("tiny-digits", "--resume-if-any", *SHORT, "--steps")
    assert not train(*command, "2")
    assert not train(*command, "4")
    assert "steps 2 -> 4 from step 2" in capsys.readouterr().err
    assert not train(*command, "4")
    assert "nothing left to do" in capsys.readouterr().err
    rows = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [0, 2]


def test_a_checkpoint_is_gone_on_from(train, tmp_path, capsys):
    assert not train("tiny-digits", *SHORT, "--steps", "4", "--save.every-steps=2", "--save.keep=0")
    assert not train("--resume=run/checkpoints/step-00000002", "--steps", "3")
    assert "set aside" in capsys.readouterr().err
    names = sorted(folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step-00000002", "step-00000003"]
    assert not train("--resume", str(tmp_path / "run" / "checkpoints" / "step-00000003") + "/")
    assert train("--resume", "run/checkpoints/step-00000001") == 2
    assert "is no checkpoint of the run run; it has step-00000002" in capsys.readouterr().err
    assert train("--resume", "run", "--out", "elsewhere", "--steps", "9") == 2
    assert "leave --out out" in capsys.readouterr().err


def test_tasks_of_slurm_without_torchrun_are_refused(train, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert train("tiny-digits", *SHORT, "--steps", "1") == 2
    assert "Slurm started 2 tasks, which don't know of each other" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert not train("tiny-digits", *SHORT, "--steps", "1")


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
