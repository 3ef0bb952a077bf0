"""A run that goes on with changed flags: what is applied, said, recorded, and what is refused."""

import json
import shutil
from dataclasses import replace

import pytest

from diptych.checkpoints.steps import checkpoints
from diptych.config import DataConfig, ModelConfig, OptimConfig, SaveConfig, SiglipObjectiveConfig
from diptych.data import Loader
from diptych.errors import ConfigError, TrainingError
from diptych.training import fit, load_run, read_metrics
from tests.training.runs import COMPOSED, MODEL, WORDY, assert_same_bits, small_run


@pytest.fixture
def seen(monkeypatch):
    """The numbers of the samples of every batch that is trained on."""
    found, iterate = [], Loader.__iter__

    def watched(loader):
        for batch in iterate(loader):
            found.append(batch.index.tolist())
            yield batch

    monkeypatch.setattr(Loader, "__iter__", watched)
    return found


def history(out):
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("size", [5, 10, 15])
def test_another_batch_size_neither_skips_nor_repeats(tmp_path, seen, size):
    """20 pairs, 10 of them by five steps of two: the others are what is left of the epoch."""
    run = small_run(tmp_path / "run", batch_size=2, steps=5)
    fit(run, progress=False)
    steps = 5 + 30 // size  # 40 samples in all: two epochs
    fit(replace(run, batch_size=size, steps=steps), resume=True, progress=False)
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "samples" in row]
    assert rows[-1]["samples"] == 40
    assert [row["samples"] for row in rows] == sorted(row["samples"] for row in rows)
    samples = [number for batch in seen for number in batch]
    assert sorted(samples[:20]) == sorted(samples[20:]) == list(range(20))


def test_epochs_are_counted_in_samples(tmp_path, seen):
    """Two epochs of 20 pairs; the first 16 in batches of 8, then batches of 4: six more steps."""
    run = small_run(tmp_path / "run", steps=2)
    fit(run, progress=False)
    last = fit(replace(run, steps=0, epochs=2.0, batch_size=4), resume=True, progress=False)
    assert last.name == "step-00000008"
    assert sum(map(len, seen)) == 40


def test_a_checkpoint_of_an_older_version_counts_its_batches(tmp_path, seen):
    run = small_run(tmp_path / "run", steps=4)
    last = fit(run, progress=False)
    progress = json.loads((last / "training.json").read_text())
    (last / "training.json").write_text(
        json.dumps({"step": progress["step"], "scaler": progress["scaler"]})
    )
    (last / "checksums.json").unlink()
    fit(replace(run, batch_size=4, steps=6), resume=True, progress=False)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["samples"] == 4 * 8 + 2 * 4


def test_what_was_changed_is_said_and_recorded_and_stays(tmp_path, capsys):
    run = small_run(tmp_path / "run", steps=4)
    fit(run, progress=False)
    changed = replace(run, optim=replace(run.optim, lr=1e-4), batch_size=4, steps=6)
    fit(changed, resume=True)
    said = capsys.readouterr().err.splitlines()
    assert "optim.lr 0.001 -> 0.0001, batch_size 8 -> 4, steps 4 -> 6 from step 4" in said
    assert any(
        "the schedule of the learning rate is laid over all of them" in line for line in said
    )
    assert load_run(tmp_path / "run") == changed
    start, later = history(tmp_path / "run")
    assert (start["step"], start["samples"], start["changes"]) == (0, 0, {})
    assert (later["step"], later["samples"]) == (4, 32)
    assert later["changes"] == {
        "optim.lr": [0.001, 0.0001],
        "batch_size": [8, 4],
        "steps": [4, 6],
    }
    # What was given last is what a plain resume goes on with.
    fit(replace(load_run(tmp_path / "run"), steps=8), resume=True, progress=False)
    assert history(tmp_path / "run")[-1]["changes"] == {"steps": [6, 8]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 3}, r"seed can't change when a run goes on \(0 -> 3\)"),
        (
            {"model": ModelConfig(custom=replace(MODEL, embed_dim=8))},
            "model.custom.embed_dim can't",
        ),
        ({"model": ModelConfig(name="tiny")}, "model.name can't change"),
        ({"model": ModelConfig(custom=MODEL, init="elsewhere")}, "model.init can't change"),
        ({"objective": SiglipObjectiveConfig()}, "objective can't change"),
    ],
    ids=["seed", "custom", "name", "init", "objective"],
)
def test_what_cannot_change_is_refused_by_name(tmp_path, changes, says):
    run = small_run(tmp_path / "run", steps=1, model=ModelConfig(custom=MODEL))
    fit(run, progress=False)
    with pytest.raises(ConfigError, match=says):
        fit(replace(run, steps=2, **changes), resume=True, progress=False)
    assert load_run(tmp_path / "run") == run


def test_a_part_of_the_objective_that_does_not_fit_is_named(tmp_path):
    objective = COMPOSED["declip"]
    run = small_run(tmp_path / "run", steps=1, model=ModelConfig(custom=WORDY), objective=objective)
    fit(run, progress=False)
    other = replace(run, steps=2, objective=replace(objective, queue=40))
    with pytest.raises(ConfigError, match=r"objective.queue can't change when a run goes on"):
        fit(other, resume=True, progress=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"optim": OptimConfig(name="sgd", lr=1e-3)},
        {"precision": "fp16"},
        {"ema": 0.9},
        {"model": ModelConfig(custom=MODEL)},
    ],
    ids=["sgd", "fp16", "average", "no patch dropout"],
)
def test_what_may_change_goes_on_and_back(tmp_path, changes):
    run = small_run(tmp_path / "run", steps=2)
    fit(run, progress=False)
    fit(replace(run, steps=4, **changes), resume=True, progress=False)
    assert fit(replace(run, steps=6), resume=True, progress=False).name == "step-00000006"


@pytest.mark.parametrize("name", ["lamb", "lamb-deepspeed", "lion", "sgd"])
def test_every_optimiser_goes_on_exactly(tmp_path, name):
    optim = OptimConfig(name=name, lr=1e-3, warmup=2, max_norm=1.0)
    whole = fit(small_run(tmp_path / "whole", optim=optim, steps=4), progress=False)
    run = small_run(tmp_path / "part", optim=optim, steps=4)
    halted = replace(run, steps=2, optim=replace(optim, part=(0.0, 0.5)))
    fit(halted, progress=False)
    assert_same_bits(fit(run, resume=True, progress=False), whole)


def test_another_order_of_the_data_is_said(tmp_path, capsys):
    run = small_run(tmp_path / "run", steps=2)
    fit(run, progress=False)
    fit(replace(run, steps=3, data=DataConfig(path="synthetic:21", workers=0)), resume=True)
    assert "samples of this epoch may come twice or not at all" in capsys.readouterr().err


def test_a_finished_run_has_nothing_left_to_do(tmp_path, capsys):
    run = small_run(tmp_path / "run", steps=2)
    last = fit(run, progress=False)
    before = (tmp_path / "run" / "history.jsonl").read_bytes()
    capsys.readouterr()
    assert fit(run, resume=True) == last
    assert "nothing left to do" in capsys.readouterr().err
    assert (tmp_path / "run" / "history.jsonl").read_bytes() == before


def test_a_run_goes_on_from_an_earlier_checkpoint(tmp_path):
    """What came after it is set aside: the run is the same again, and its newest is its own."""
    run = small_run(tmp_path / "run", save=SaveConfig(every_steps=4, keep=0))
    whole = fit(run, progress=False)
    kept = tmp_path / "whole"
    shutil.copytree(whole, kept)
    folder = checkpoints(tmp_path / "run")[0]
    assert_same_bits(fit(run, resume=folder, progress=False), kept)
    aside = tmp_path / "run" / "set-aside-1"
    assert [each.name for each in sorted(aside.iterdir())] == [
        "metrics.jsonl",
        "step-00000008",
        "step-00000012",
    ]
    steps = [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert steps == sorted(set(steps))
    with pytest.raises(ConfigError, match="is no checkpoint of the run .* it has step-00000004"):
        fit(run, resume=tmp_path / "run" / "checkpoints" / "step-00000005", progress=False)


def test_a_loss_that_is_not_a_number_names_no_checkpoint_where_there_is_none(tmp_path):
    run = small_run(tmp_path / "run", optim=OptimConfig(lr=1e30), save=SaveConfig(every_steps=0))
    with pytest.raises(TrainingError, match="there is no checkpoint yet"):
        fit(run, progress=False)
