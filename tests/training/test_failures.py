"""What ends a run from inside: memory, data, trackers. What was trained is saved, and of a start
that fails nothing is left."""

import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.utils import tensorboard

from diptych.checkpoints.steps import checkpoints
from diptych.config import (
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    SaveConfig,
    TrackConfig,
)
from diptych.data import BadSamples
from diptych.errors import (
    ConfigError,
    DataError,
    DiptychWarning,
    StoppedError,
    TrainingError,
)
from diptych.interrupts import Interrupted
from diptych.training import fit, loop, read_metrics
from tests.training.runs import MODEL, STEM, assert_same_bits, small_run

OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't"),
]


@pytest.fixture
def failing(monkeypatch):
    """`owner.name` raises `error` at its `count`th call, and counts its calls."""

    def put(owner, name, count, error):
        real, calls = getattr(owner, name), []

        def called(*args, **kwargs):
            calls.append(name)
            if len(calls) == count:
                raise error
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, called)
        return calls

    return put


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_out_of_memory_is_one_sentence(tmp_path, failing, error):
    out = tmp_path / "run"
    failing(loop, "accumulate", 4, error)
    with pytest.raises(
        TrainingError,
        match=r"memory ran out in step 4 of 12: lower --micro-batch or --batch-size.*; "
        r"the last good checkpoint is .*step-00000003. Continue with: diptych train --resume",
    ):
        fit(small_run(out), progress=False)
    assert checkpoints(out)[-1].name == "step-00000003"


def test_a_first_step_without_memory_leaves_nothing(tmp_path, failing):
    failing(loop, "accumulate", 1, MemoryError())
    with pytest.raises(TrainingError, match=r"checkpointing\)$"):
        fit(small_run(tmp_path / "a" / "run"), progress=False)
    assert list(tmp_path.iterdir()) == []


def test_data_that_fails_on_the_way_loses_no_step(tmp_path, failing):
    failing(BadSamples, "stop_if_above", 6, DataError("20 of 40 samples read are bad"))
    with pytest.raises(DataError, match=r"are bad; the last good.*step-0.*. Continue with: "):
        fit(small_run(tmp_path / "run"), progress=False)
    assert checkpoints(tmp_path / "run")[-1].name >= "step-00000003"  # some are read ahead


def test_a_step_that_is_given_up_leaves_no_statistics(tmp_path, failing):
    """Batch norms record them in the forward pass, before the step is taken."""
    model = ModelConfig(custom=replace(MODEL, image=STEM))
    run = small_run(tmp_path / "whole", model=model, save=SaveConfig(every_steps=1, keep=0))
    fit(run, progress=False)
    out = tmp_path / "part"
    failing(loop, "clip_gradients", 4, Interrupted("SIGTERM", 143))
    with pytest.raises(StoppedError, match="stopped at step 3 of 12 by SIGTERM"):
        fit(replace(run, out=str(out), save=SaveConfig(every_steps=0)), progress=False)
    assert_same_bits(checkpoints(tmp_path / "whole")[2], checkpoints(out)[-1])


@pytest.fixture
def a_bad_step(monkeypatch):
    """The fifth step's loss isn't a number, though its gradients are; the run's state."""
    real, calls, states = loop.accumulate, [], []

    def bad(*args):
        calls.append(0)
        losses = real(*args)
        return losses._replace(total=losses.total * torch.nan) if len(calls) == 5 else losses

    def kept(state, *args):
        states.append(state)
        return loop.train(state, *args)

    monkeypatch.setattr(loop, "accumulate", bad)
    monkeypatch.setattr(sys.modules["diptych.training.fit"], "train", kept)
    return states


@pytest.mark.parametrize("optim", ["adamw", "sgd", "lamb", "lamb-deepspeed", "lion"])
def test_a_bad_step_moves_no_weight(tmp_path, a_bad_step, optim):
    """It is known a step later, when nothing is saved before."""
    optim = OptimConfig(name=optim, lr=1e-2)
    run = small_run(tmp_path / "run", optim=optim, save=SaveConfig(every_steps=4))
    with pytest.raises(
        TrainingError, match=r"not a number at step 4 \(loss nan, gradient norm \d.*step-00000004"
    ):
        fit(run, progress=False)
    assert [folder.name for folder in checkpoints(tmp_path / "run")] == ["step-00000004"]
    saved = load_file(checkpoints(tmp_path / "run")[-1] / "model.safetensors")
    moments = load_file(checkpoints(tmp_path / "run")[-1] / "training.safetensors")
    state = a_bad_step[0]
    assert state.step == 5
    assert all(tensor.equal(saved[name]) for name, tensor in state.model.state_dict().items())
    for name, parameter in state.objective.named_parameters():
        for key, moment in state.optimizer.state[parameter].items():
            assert moment.equal(moments[f"optimizer/{name}/{key}"]), (name, key)


@pytest.mark.parametrize("optim", ["adamw", "lamb", "lion"])
def test_a_bad_step_is_in_no_checkpoint(tmp_path, a_bad_step, failing, optim):
    run = small_run(tmp_path / "run", optim=OptimConfig(name=optim, lr=1e-3))
    every = replace(run, save=SaveConfig(every_steps=1, keep=0))
    with pytest.raises(TrainingError, match="not a number at step 4 "):
        fit(every, progress=False)
    names = [folder.name for folder in checkpoints(tmp_path / "run")]
    assert names == [f"step-0000000{step}" for step in (1, 2, 3, 4)]
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [3]


def test_a_stop_behind_a_bad_step_saves_nothing_of_it(tmp_path, a_bad_step, failing):
    failing(loop, "clip_gradients", 6, Interrupted("SIGTERM", 143))
    run = small_run(tmp_path / "run", save=SaveConfig(every_steps=4))
    with pytest.raises(StoppedError, match=r"by SIGTERM; the last checkpoint is step-00000004\."):
        fit(run, progress=False)
    assert [folder.name for folder in checkpoints(tmp_path / "run")] == ["step-00000004"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"track": TrackConfig(wandb="p")}, "--track.wandb needs W&B: pip install"),
        ({"track": TrackConfig(tensorboard=True)}, "--track.tensorboard needs TensorBoard"),
        ({"evaluation": EvaluationConfig(path="nowhere.tar")}, "--evaluation.path nowhere.tar"),
        ({"batch_size": 64}, "--batch-size 64 is more than the 20 samples"),
        ({"model": ModelConfig(init="nowhere.pt")}, "nowhere.pt"),
    ],
    ids=["wandb", "tensorboard", "evaluation", "batch", "weights"],
)
def test_a_failed_start_leaves_nothing(tmp_path, monkeypatch, changes, says):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")
    for out in (tmp_path / "a" / "run", tmp_path / "there"):
        with pytest.raises(Exception, match=says):
            fit(small_run(out, **changes), progress=False)
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "notes.txt"]


def test_a_key_that_is_missing_is_one_sentence(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")

    def init(**_):
        raise wandb.errors.UsageError("api_key not configured (no-tty)\nten lines of advice")

    monkeypatch.setattr(wandb, "init", init)
    run = small_run(tmp_path / "run", track=TrackConfig(wandb="p"))
    with pytest.raises(ConfigError, match=r"--track.wandb: api_key not configured .*WANDB_MODE"):
        fit(run, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_fails_later_ends_nothing(tmp_path, failing):
    calls = failing(
        tensorboard.SummaryWriter, "add_scalar", 9, OSError(28, "No space left on device")
    )
    run = small_run(tmp_path / "run", track=TrackConfig(every_steps=3, tensorboard=True))
    with pytest.warns(DiptychWarning, match=r"--track.tensorboard: step \d+ couldn't be") as said:
        assert fit(run, progress=False).name == "step-00000012"
    assert len(said) == 1
    assert len(calls) > 9  # it is tried again
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [3, 6, 9, 12]
