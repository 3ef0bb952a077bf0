"""Checkpoints are written beside the training: of the step at which they were asked for, and the
training doesn't wait for the disk."""

import errno
import threading
from dataclasses import replace

import pytest

from diptych.checkpoints.steps import checkpoints, step_of
from diptych.config import SaveConfig
from diptych.errors import TrainingError
from diptych.training import checkpoint, fit, loop
from tests.training.runs import assert_same_bits, small_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The last checkpoint of a run that nothing disturbed; the others lie beside it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return fit(small_run(out, save=SaveConfig(every_steps=4, keep=0)), progress=False)


@pytest.fixture
def at_step(monkeypatch):
    """`at_step(n, action)`: the action is done when step n begins."""

    def watch(number, action):
        real = loop.seed_step

        def seed_step(seed, step, rank):
            if step == number:
                action()
            real(seed, step, rank)

        monkeypatch.setattr(loop, "seed_step", seed_step)

    return watch


def slow(monkeypatch, gate: threading.Event, waited: list[bool]):
    """The disk takes nothing before the gate is open."""
    real = checkpoint.put

    def put(path, pieces):
        waited.append(gate.wait(60))
        real(path, pieces)

    monkeypatch.setattr(checkpoint, "put", put)


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_loop_waits_for_no_disk_and_the_file_is_the_state_at_the_call(
    tmp_path, monkeypatch, at_step, whole, ema
):
    """Step 4 is asked for, and nothing of it is written before step 8 is taken."""
    run = small_run(tmp_path / "run", save=SaveConfig(every_steps=4, keep=0), ema=ema)
    if ema:
        whole = fit(replace(run, out=str(tmp_path / "whole")), progress=False)
    gate, waited, seen = threading.Event(), [], []
    slow(monkeypatch, gate, waited)

    def open_it():
        seen.extend(checkpoints(tmp_path / "run"))
        gate.set()

    at_step(7, open_it)
    fit(run, progress=False)
    assert all(waited)
    assert seen == []
    for one, other in zip(
        checkpoints(whole.parent.parent), checkpoints(tmp_path / "run"), strict=True
    ):
        assert_same_bits(one, other)


def test_one_is_written_at_a_time(tmp_path, monkeypatch):
    inside, most, real = [0], [0], checkpoint.write

    def write(*arguments):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        result = real(*arguments)
        inside[0] -= 1
        return result

    monkeypatch.setattr(checkpoint, "write", write)
    out = tmp_path / "run"
    fit(small_run(out, steps=6, save=SaveConfig(every_steps=1, keep=0)), progress=False)
    assert most == [1]
    assert [step_of(folder) for folder in checkpoints(out)] == list(range(1, 7))


def full_at(monkeypatch, *calls: int):
    """The disk is full when a file of tensors is written for the so manieth time: two each step."""
    real, made = checkpoint.put, []

    def put(path, pieces):
        made.append(path)
        if len(made) in calls:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, pieces)

    monkeypatch.setattr(checkpoint, "put", put)


def test_a_failure_is_told_at_the_next_save_which_is_made(tmp_path, monkeypatch, whole):
    """Nothing is lost: the run goes on from the step at which it was told."""
    run = small_run(tmp_path / "run", save=SaveConfig(every_steps=4, keep=0))
    full_at(monkeypatch, 4)  # of step 8, the second file
    with pytest.raises(
        TrainingError,
        match="could not write the checkpoint of step 8: .*No space left on device.*; the last "
        "good checkpoint is .*step-00000012. Make room and continue with: diptych train --resume",
    ):
        fit(run, progress=False)
    found = checkpoints(tmp_path / "run")
    assert [step_of(folder) for folder in found] == [4, 12]
    assert not list(found[0].parent.glob(".*"))
    assert_same_bits(found[-1], whole)


def test_a_failure_of_the_last_is_told_at_the_end(tmp_path, monkeypatch, whole):
    full_at(monkeypatch, 5)
    with pytest.raises(TrainingError, match="of step 12: .*No space.* is .*step-00000008"):
        fit(small_run(tmp_path / "run"), progress=False)
    assert_same_bits(fit(small_run(tmp_path / "run"), resume=True, progress=False), whole)


def test_what_is_written_when_another_error_ends_the_run_is_finished(
    tmp_path, monkeypatch, at_step
):
    gate, waited = threading.Event(), []
    slow(monkeypatch, gate, waited)

    def fail():
        threading.Timer(0.3, gate.set).start()
        raise ZeroDivisionError

    at_step(5, fail)
    with pytest.raises(ZeroDivisionError):
        fit(small_run(tmp_path / "run"), progress=False)
    assert [step_of(folder) for folder in checkpoints(tmp_path / "run")] == [4]


def test_a_defect_in_the_writing_is_raised_as_it_is(tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("of somebody's tokenizer")

    monkeypatch.setattr(checkpoint, "describe", broken)
    with pytest.raises(ZeroDivisionError, match="of somebody's tokenizer"):
        fit(small_run(tmp_path / "run"), progress=False)
