"""Runs with teachers: they are known by what they hold, and a run goes on with the same."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from diptych import models
from diptych.errors import CheckpointError, ConfigError
from diptych.training import fit, load_run
from diptych.weights import save_model
from tests.objectives.mimic import MimicConfig
from tests.training.runs import MODEL, assert_same_bits, small_run


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Two folders of models."""
    folder, found = tmp_path_factory.mktemp("teachers"), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(str(save_model(folder / str(seed), models.build(MODEL))))
    return found


def taught(out, *teachers, **changes):
    return small_run(out, objective=MimicConfig(teachers=teachers), **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, teachers):
    return fit(taught(tmp_path_factory.mktemp("run") / "run", *teachers, ema=0.5), progress=False)


def test_a_checkpoint_holds_none_of_them_and_the_run_their_fingerprints(whole):
    model, training = (load_file(whole / f"{name}.safetensors") for name in ("model", "training"))
    assert not [name for name in {*model, *training} if "kept" in name]
    run = load_run(whole.parent.parent)
    assert [len(each) for each in run.objective.fingerprints] == [64, 64]
    assert len(set(run.objective.fingerprints)) == 2


def test_resumed_it_is_the_run_that_never_stopped(tmp_path, whole, teachers):
    first = taught(tmp_path / "again", *teachers, ema=0.5)
    shutil.copytree(whole.parent.parent, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step-00000012")
    # By the command that it was started with, and by its own run.json; wherever its teachers are.
    assert_same_bits(fit(first, resume=True, progress=False), whole)
    moved = [shutil.copytree(name, tmp_path / str(i)) for i, name in enumerate(teachers)]
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step-00000012")
    own = load_run(tmp_path / "again")
    own = replace(own, objective=replace(own.objective, teachers=tuple(map(str, moved))))
    assert_same_bits(fit(own, resume=True, progress=False), whole)


def test_other_teachers_are_refused(tmp_path, whole, teachers):
    one, two = teachers
    shutil.copytree(whole.parent.parent, tmp_path / "run")
    saved, says = load_run(tmp_path / "run"), "aren't the teachers that the run has .*, and are "
    saved = replace(saved, out=str(tmp_path / "run"), steps=16)
    for names in ((two, one), (one, one)):
        with pytest.raises(ConfigError, match=says):
            fit(taught(tmp_path / "run", *names, ema=0.5), resume=True, progress=False)
        other = replace(saved, objective=replace(saved.objective, teachers=names))
        with pytest.raises(ConfigError, match=says):
            fit(other, resume=True, progress=False)
    with pytest.raises(ConfigError, match=says):
        fit(taught(tmp_path / "run", one, ema=0.5), resume=True, progress=False)


def test_what_is_no_teacher_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="--objective.teachers no/such/model: no model is"):
        fit(taught(tmp_path / "run", "no/such/model"), progress=False)
    with pytest.raises(ConfigError, match="fingerprints has 1 values for 2 in"):
        MimicConfig(teachers=("a", "b"), fingerprints=("c",))
