"""Masked image modelling as a run: resumed, exported, followed by contrastive training, and what is
refused."""

import re
import shlex
import shutil
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import diptych
from diptych import models
from diptych.cli import main
from diptych.config import (
    DataConfig,
    EvaluationConfig,
    MimObjectiveConfig,
    ModelConfig,
    TowerOptions,
)
from diptych.config.serialize import to_json
from diptych.data import open_source, write_shards
from diptych.errors import ConfigError, DataWarning
from diptych.training import fit, load_run, read_metrics
from diptych.training.plan import plan
from diptych.weights import save_model
from tests.forked import Script
from tests.objectives.small import SMALL_EVA
from tests.tiny import write_pictures
from tests.training.runs import MODEL, assert_same_bits, small_run

EVA = replace(SMALL_EVA, width=32)
STUDENT = replace(MODEL, image=EVA, embed_dim=8)
"""Of another space than the teacher's, which it gets."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(1)
    return str(save_model(tmp_path_factory.mktemp("teacher") / "one", models.build(MODEL)))


def mim_run(out, teacher, **changes):
    image = TowerOptions(stochastic_depth=0.1, patch_gradient=0.1, initial="eva02")
    run = small_run(
        out,
        model=ModelConfig(custom=STUDENT, image=image),
        objective=MimObjectiveConfig(teachers=(teacher,), exact=False),
        ema=0.5,
    )
    return replace(run, **changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory, teacher):
    return fit(mim_run(tmp_path_factory.mktemp("run") / "run", teacher), progress=False)


def test_the_student_is_an_ordinary_model_with_its_teachers_text_tower(done, teacher):
    ours, theirs = load_file(done / "model.safetensors"), load_file(f"{teacher}/model.safetensors")
    same = {name for name in theirs if name in ours and ours[name].equal(theirs[name])}
    assert same == {name for name in theirs if not name.startswith("image.")}
    assert "mask_token" not in "".join(ours)
    assert "objective/mask_token" in "".join(load_file(done / "training.safetensors"))
    clip = diptych.load(done, "cpu")
    assert clip.embed_texts(["a red ring"]).shape == (1, MODEL.embed_dim)


def test_resumed_it_is_the_run_that_never_stopped(tmp_path, done, teacher):
    shutil.copytree(done.parent.parent, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000012")
    run = mim_run(tmp_path / "run", teacher, micro_batch=0)
    assert_same_bits(fit(run, resume=True, progress=False), done)


KILLED = """
import os, signal, sys, time
from pathlib import Path
from diptych.data.chunks import Steps
from diptych.training import fit, load_run

out, read = Path(sys.argv[1]), Steps.__call__

def killed_at_seven(self, item, note):
    if item.step == 7:
        while not (out / "checkpoints" / "step-00000004").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, item, note)

Steps.__call__ = killed_at_seven
fit(load_run(out), progress=False)
"""


def test_killed_it_goes_on_as_the_run_that_never_stopped(tmp_path, done, teacher):
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text(to_json(mim_run(out, teacher)))
    code, _, errors = Script(KILLED, out).end()
    assert code == -signal.SIGKILL, errors
    assert [path.name for path in (out / "checkpoints").glob("step-*")] == ["step-00000004"]
    assert_same_bits(fit(load_run(out), resume=True, progress=False), done)


def test_contrastive_training_starts_from_it(tmp_path, done):
    """With the command line; the towers differ in the norms inside attention, which is said."""
    out = tmp_path / "clip"
    custom = replace(STUDENT, image=replace(EVA, attention_norm=True), embed_dim=MODEL.embed_dim)
    run = small_run(out, model=ModelConfig(custom=custom, image=TowerOptions(init=str(done))))
    began = fit(replace(run, steps=1, optim=replace(run.optim, lr=1e-9)), progress=False)
    before, after = (load_file(folder / "model.safetensors") for folder in (done, began))
    for name in (name for name in before if name.startswith("image.")):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    assert load_run(out).model.image.init == str(done)


def test_the_page_s_commands_run(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "masked-image-modelling.md").read_text()
    [block] = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    commands = re.findall(r"^\$ diptych (.*)$", block.replace("\\\n", " "), re.MULTILINE)
    assert len(commands) == 3
    monkeypatch.chdir(tmp_path)
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command))
        assert not ended.value.code
    assert load_run(tmp_path / "runs" / "clip").model.image.init == "runs/mim"


def test_validation_hides_every_other_patch_and_is_the_same_for_all_sizes(tmp_path, teacher):
    found = []
    for size in (8, 4):
        held = EvaluationConfig(pairs="synthetic:10", every_steps=0)
        run = mim_run(tmp_path / str(size), teacher, evaluation=held, batch_size=size, steps=1)
        run = replace(run, ema=0.0, optim=replace(run.optim, lr=1e-12))
        fit(run, progress=False)
        rows = read_metrics(tmp_path / str(size) / "metrics.jsonl")
        found += [row["val/loss"] for row in rows if "val/loss" in row]
    assert len(found) == 2
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert -1 < found[0] < 1


def test_held_out_pictures_alone_have_a_loss_too(tmp_path, teacher):
    """The same as with captions, which MIM doesn't read; what retrieval lacks is said."""
    write_pictures(tmp_path / "classes", each=2)
    flat, told = tmp_path / "flat", tmp_path / "told"
    flat.mkdir()
    told.mkdir()
    for path in (tmp_path / "classes").rglob("*.png"):
        name = f"{path.parent.name} {path.name}"
        shutil.copy(path, flat / name)
        shutil.copy(path, told / name)
        (told / name).with_suffix(".txt").write_text(f"{path.parent.name} {path.stem}")
    shards = tmp_path / "shards"
    whole = open_source(DataConfig(path=str(flat)), alone=True)
    write_shards(shards, [whole[i] for i in range(len(whole))])
    found = {}
    for path in (told, flat, tmp_path / "classes", next(shards.glob("*.tar"))):
        held = EvaluationConfig(pairs=str(path), every_steps=0)
        out = tmp_path / f"run-{path.name}"
        run = mim_run(out, teacher, evaluation=held, steps=1, ema=0.0)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", DataWarning)
            fit(run, progress=False)
        [row] = [row for row in read_metrics(out / "metrics.jsonl") if "val/loss" in row]
        found[path] = row["val/loss"]
        alone = [str(each.message) for each in said if "the loss alone" in str(each.message)]
        assert len(alone) == (path != told)
        assert all(text.startswith(f"--evaluation.pairs {path}: ") for text in alone)
        assert ("val/image_to_text_R@1" in row) == (path == told)
    assert len(found) == 4
    assert max(found.values()) == pytest.approx(min(found.values()), abs=1e-5)
    missing = EvaluationConfig(pairs=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="^--evaluation.pairs .*nowhere doesn't exist$"):
        fit(mim_run(tmp_path / "none", teacher, evaluation=missing), progress=False)


def test_pictures_alone_will_do(tmp_path, teacher):
    write_pictures(tmp_path / "classes", each=3)
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted((tmp_path / "classes").rglob("*.png"))):
        shutil.copy(path, flat / f"{i}.png")
    whole = open_source(DataConfig(path=str(flat)), alone=True)
    shards = tmp_path / "shards"
    write_shards(shards, [whole[i] for i in range(len(whole))])
    for path in (flat, tmp_path / "classes", next(shards.glob("*.tar"))):
        data = DataConfig(path=str(path), workers=0)
        run = mim_run(tmp_path / f"run-{path.name}", teacher, data=data, batch_size=4, steps=1)
        assert fit(run, progress=False).name == "step-00000001"


def test_planned_with_its_teacher(tmp_path, teacher):
    with_it = plan(mim_run(tmp_path, teacher))
    without = plan(small_run(tmp_path, model=ModelConfig(custom=replace(STUDENT, embed_dim=16))))
    assert with_it.parameters > without.parameters - without.text
    student, text = with_it.image + 32, with_it.text  # with the mask token
    assert with_it.trained == student
    image = models.build(MODEL, "meta").image
    taught = sum(p.numel() for p in image.parameters())
    assert with_it.parameters == student + text + taught + 1
    cut = plan(mim_run(tmp_path, teacher, micro_batch=2))
    assert cut.flops == pytest.approx(with_it.flops)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"objective": MimObjectiveConfig()}, "needs a teacher: name it by --objective.teachers"),
        (
            {"model": ModelConfig(custom=STUDENT, text=TowerOptions(lr=1e-3))},
            "--model.text.lr has no effect: the text tower is the teacher's",
        ),
        (
            {"model": ModelConfig(custom=STUDENT, image=TowerOptions(patch_dropout=0.5))},
            "needs every patch of a picture, and --model.image.patch-dropout leaves some out",
        ),
        (
            {"model": ModelConfig(custom=MODEL, image=TowerOptions(initial="eva02"))},
            "initial eva02: a VisionTransformer has but its own table",
        ),
        (
            {"model": ModelConfig(custom=STUDENT, image=TowerOptions(initial="eva3"))},
            "no initial table of an EVA tower is called 'eva3'",
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, teacher, change, says):
    with pytest.raises(ConfigError, match=says):
        fit(mim_run(tmp_path / "run", teacher, **change), progress=False)


def test_a_whole_start_of_another_space_is_refused(tmp_path, teacher, done):
    torch.manual_seed(2)
    other = save_model(tmp_path / "other", models.build(STUDENT))
    run = mim_run(tmp_path / "run", teacher, model=ModelConfig(init=str(other)))
    with pytest.raises(ConfigError, match="start the image tower alone from it, by --model.image"):
        fit(run, progress=False)
    again = mim_run(tmp_path / "again", teacher, model=ModelConfig(init=str(done)), steps=1)
    assert fit(again, progress=False)
