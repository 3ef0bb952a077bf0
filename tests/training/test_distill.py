"""Runs that learn from teachers: asked in training, or read where their vectors are stored."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diptych import models
from diptych.checkpoints import locate
from diptych.config import (
    AugmentConfig,
    DataConfig,
    DistillObjectiveConfig,
    ModelConfig,
    PreprocessConfig,
    SaveConfig,
    ShardConfig,
)
from diptych.data import write_shards
from diptych.encoder import load, reinforce
from diptych.errors import ConfigError
from diptych.training import fit, load_run
from diptych.training.plan import plan
from diptych.training.trace import trace
from diptych.weights import save_model
from tests import tiny
from tests.distributed.harness import run_processes
from tests.encoder.test_reinforce import samples
from tests.training.runs import MODEL, WORDY, assert_same_bits, small_run

AUGMENT = AugmentConfig(scale=(0.4, 1.0), flip=0.5, crops=3, seed=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pairs, teachers of other sizes, normalisations, widths and tokenizers, and what they say."""
    folder = tmp_path_factory.mktemp("distill")
    write_shards(folder / "shards", samples(20), per_shard=8)
    tiny.save(folder / "large", 1)
    other = PreprocessConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bilinear")
    torch.manual_seed(4)
    wordy = replace(WORDY, preprocess=other, embed_dim=24, token_dim=None)
    save_model(folder / "wordy", models.build(wordy))
    teachers = [load(folder / name, "cpu", deploy=False) for name in ("large", "wordy")]
    reinforce(data(folder), teachers, folder / "store")
    return folder


def data(folder, **changes) -> DataConfig:
    source = {"path": str(folder / "shards"), "cache": str(folder / "cache"), "workers": 0}
    return DataConfig(**source, augment=AUGMENT, **changes)


def asked(folder, **changes) -> DistillObjectiveConfig:
    names = tuple(str(folder / name) for name in ("large", "wordy"))
    return DistillObjectiveConfig(teachers=names, weight=0.7, **changes)


def stored(folder, **changes) -> DistillObjectiveConfig:
    return DistillObjectiveConfig(reinforced=str(folder / "store"), weight=0.7, **changes)


def run_of(folder, out, objective, **changes):
    return small_run(
        out,
        objective=objective,
        data=data(folder),
        **({"steps": 6, "save": SaveConfig(every_steps=3)} | changes),
    )


@pytest.fixture(scope="module")
def computed(place):
    return fit(run_of(place, place / "computed", asked(place)), progress=False)


def test_stored_vectors_train_as_asked_teachers_do_bit_for_bit(place, computed, tmp_path):
    found = fit(run_of(place, tmp_path / "run", stored(place)), progress=False)
    assert_same_bits(found, computed)
    # Whoever reads them, and however many pairs are computed at a time.
    other = replace(data(place), workers=1, augment=replace(AUGMENT, crops=0, seed=0))
    run = run_of(place, tmp_path / "other", stored(place))
    assert_same_bits(fit(replace(run, data=other), progress=False), computed)
    halves = [
        fit(run_of(place, tmp_path / name, objective, micro_batch=4), progress=False)
        for name, objective in (("a", asked(place)), ("b", stored(place)))
    ]
    assert_same_bits(*halves)
    whole, parts = (load_file(each / "model.safetensors") for each in (computed, halves[0]))
    plain = fit(
        run_of(place, tmp_path / "plain", replace(stored(place), weight=0.0)), progress=False
    )
    apart = load_file(plain / "model.safetensors")
    assert not apart["image.projection.weight"].equal(whole["image.projection.weight"])
    assert whole.keys() == parts.keys()


@pytest.mark.parametrize("objective", [asked, stored])
def test_resumed_it_is_the_run_that_never_stopped(place, computed, tmp_path, objective):
    out = tmp_path / "run"
    fit(run_of(place, out, objective(place)), progress=False)
    shutil.rmtree(out / "checkpoints" / "step-00000006")
    found = fit(run_of(place, out, objective(place)), resume=True, progress=False)
    assert_same_bits(found, computed)
    shutil.rmtree(out / "checkpoints" / "step-00000006")
    moved = load_run(out)
    if objective is stored:  # by its own run.json, with the store elsewhere
        shutil.copytree(place / "store", tmp_path / "moved")
        config = replace(moved.objective, reinforced=str(tmp_path / "moved"))
        moved = replace(moved, objective=config)
    assert_same_bits(fit(moved, resume=True, progress=False), computed)
    names = load_file(found / "training.safetensors").keys()
    assert not [name for name in names if "frozen" in name]


def _fitted(peers, folder, out):
    found = []
    for name, objective in (("asked", asked), ("stored", stored)):
        for mode in ("replicate", "zero3"):
            run = run_of(folder, f"{out}/{name}-{mode}", objective(folder), model=MODEL_ALONE)
            last = fit(replace(run, shard=ShardConfig(mode=mode)), progress=False)
            found.append(load_file(last / "model.safetensors"))
    return found


MODEL_ALONE = ModelConfig(custom=MODEL)
"""Without dropped patches, which are each process's own."""


def test_two_processes_in_either_mode_are_one(place, tmp_path):
    last = fit(run_of(place, tmp_path / "one", stored(place), model=MODEL_ALONE), progress=False)
    one = load_file(last / "model.safetensors")
    for found in run_processes(2, _fitted, place, str(tmp_path / "two"))[0]:
        torch.testing.assert_close(found, one, rtol=1e-3, atol=2e-5)


def test_held_out_pairs_are_contrasted_alone(place, tmp_path):
    evaluation = replace(small_run(tmp_path).evaluation, pairs=str(place / "shards"), every_steps=6)
    losses = []
    for name, objective in (("asked", asked), ("stored", stored)):
        run = run_of(place, tmp_path / name, objective(place), evaluation=evaluation)
        fit(run, progress=False)
        text = (tmp_path / name / "metrics.jsonl").read_text()
        [line] = [line for line in text.splitlines() if "val/loss" in line]
        losses.append(line.partition("val/loss")[2])
        assert '"teachers"' in text
    assert losses[0] == losses[1]


def refused(run, match):
    with pytest.raises(ConfigError, match=match):
        fit(run, progress=False)


def test_what_does_not_fit_is_refused_before_the_first_step(place, tmp_path):
    out = tmp_path / "run"
    refused(run_of(place, out, DistillObjectiveConfig()), "has no teacher: name one or several")
    one = replace(stored(place), teachers=("nobody",))
    refused(run_of(place, out, one), "no vectors of the teacher nobody")
    run = run_of(place, out, stored(place))
    other = replace(data(place), augment=replace(AUGMENT, scale=(0.9, 1.0)))
    refused(replace(run, data=other), "give it --data.augment.scale 0.4 1.0, or make")
    refused(
        replace(run, data=DataConfig(path="synthetic:20", workers=0, augment=AUGMENT)),
        "are of other data: the sample .* of synthetic:20 has another picture",
    )
    refused(replace(run, data=replace(other, path="synthetic:21")), "others than this run's")
    refused(run_of(place, out, replace(stored(place), temperatures=(0.1,))), "temperatures has 1")
    assert not out.exists()


def test_a_run_that_goes_on_has_the_same_store(place, tmp_path):
    out = tmp_path / "run"
    fit(run_of(place, out, stored(place), steps=2), progress=False)
    torch.manual_seed(5)
    save_model(tmp_path / "third", models.build(MODEL))
    reinforce(data(place), [load(tmp_path / "third", "cpu")], tmp_path / "store")
    other = replace(stored(place), reinforced=str(tmp_path / "store"))
    with pytest.raises(ConfigError, match="aren't the teachers that the run has"):
        fit(run_of(place, out, other, steps=4), resume=True, progress=False)


def test_a_plan_counts_teachers_that_are_asked_and_none_whose_vectors_are_stored(place):
    alone, with_teachers = (
        trace(run_of(place, "x", objective), 8) for objective in (stored(place), asked(place))
    )
    assert with_teachers.both > 1.5 * alone.both
    sizes = [
        sum(p.numel() for p in load(place / name, "cpu").model.parameters())
        for name in ("large", "wordy")
    ]
    assert with_teachers.weights - alone.weights == pytest.approx(4 * sum(sizes), rel=0.01)


def test_a_plan_has_the_teachers_that_training_would_have(place, monkeypatch):
    """Repositories of the hub, too, which are read."""
    with pytest.raises(ConfigError, match="has no teacher: name one or several"):
        plan(run_of(place, "x", DistillObjectiveConfig()))
    here = asked(place)
    afar = replace(here, teachers=("hf-hub:org/large", "hf-hub:org/wordy"))
    fetched = dict(zip(afar.teachers, map(Path, here.teachers), strict=True))
    monkeypatch.setattr(locate, "fetch", lambda name, **_: fetched[name])
    assert trace(run_of(place, "x", afar), 2).weights == trace(run_of(place, "x", here), 2).weights
    with pytest.raises(ConfigError, match="--objective.teachers nobody: no model is called"):
        plan(run_of(place, "x", replace(here, teachers=("nobody",))))
    with pytest.raises(ConfigError, match="--objective.teachers '' is empty; give a name"):
        replace(here, teachers=("",))
