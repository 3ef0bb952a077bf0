"""A run that is asked to stop, wherever it is: real processes and real signals."""

import builtins
import importlib
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from diptych.checkpoints.steps import checkpoints, step_of
from diptych.training import fit
from tests.stalls import Diptych, at_call, hang_in_a_call, hang_in_python
from tests.training.runs import assert_same_bits, small_run

TRAIN = ["train", "tests.training.runs:small", "--save.every-steps", "0"]
AGAIN, WITHIN = 75, 10.0


IN_A_STEP = partial(at_call, "diptych.training.loop", "accumulate", 4)
IN_AN_EVALUATION = partial(at_call, "diptych.training.evaluate", "evaluate_model", 2)
BEFORE_THE_RUN = partial(at_call, "diptych.training.fit", "assemble", 1)
IN_THE_FIRST_STEP = partial(at_call, "diptych.training.loop", "accumulate", 1)
SAVING = partial(at_call, "diptych.training.checkpoint", "create", 3)


def a_second() -> None:
    time.sleep(1)


def said(errors: str) -> list[str]:
    """The sentences that a user reads, beside the progress."""
    assert "Traceback" not in errors
    return [line for line in errors.splitlines() if line.startswith("diptych:")]


def in_an_import(hang):
    """As torch's C++ does it, which would end the process where that raises."""

    def importing():
        Path("hanging.py").write_text("import builtins\nbuiltins.hang()")
        builtins.hang = hang
        sys.path.insert(0, ".")
        importlib.import_module("hanging")

    BEFORE_THE_RUN(importing)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return fit(small_run(tmp_path_factory.mktemp("whole") / "run"), progress=False)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        signal.SIGINT,
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("hang", [hang_in_python, hang_in_a_call])
def test_a_long_step_is_given_up_and_the_one_before_saved(
    tmp_path, monkeypatch, whole, number, hang
):
    if hang is hang_in_a_call and number != signal.SIGTERM:
        pytest.skip("which signal it was makes no difference there")
    run = Diptych(tmp_path, TRAIN, IN_A_STEP, hang)
    run.wait_until_it_hangs()
    run.signal(number)
    code, errors, seconds = run.end()
    assert code == AGAIN
    assert said(errors) == [
        f"diptych: stopped at step 3 of 12 by {signal.Signals(number).name}; everything is saved. "
        "Continue with: diptych train --resume run"
    ]
    assert seconds < WITHIN
    monkeypatch.chdir(tmp_path)
    assert_same_bits(whole, fit(small_run(Path("run")), resume=True, progress=False))


@pytest.mark.parametrize("hang", [hang_in_python, hang_in_a_call])
def test_an_evaluation_is_given_up(tmp_path, hang):
    flags = ["--evaluation.path", "synthetic:12", "--evaluation.every-steps", "2", "--ema", "0.5"]
    run = Diptych(tmp_path, [*TRAIN, *flags], IN_AN_EVALUATION, hang)
    run.wait_until_it_hangs()
    run.signal(signal.SIGTERM)
    code, errors, seconds = run.end()
    assert code == AGAIN
    assert "stopped at step 2 of 12 by SIGTERM; everything is saved" in said(errors)[-1]
    assert seconds < WITHIN


@pytest.mark.parametrize("place", [BEFORE_THE_RUN, IN_THE_FIRST_STEP, in_an_import])
@pytest.mark.parametrize("hang", [hang_in_python, hang_in_a_call])
def test_before_the_first_step_nothing_is_left(tmp_path, place, hang):
    run = Diptych(tmp_path, [*TRAIN, "--out", "a/b/run"], place, hang)
    run.wait_until_it_hangs()
    run.signal(signal.SIGTERM)
    code, errors, seconds = run.end()
    assert code == 128 + signal.SIGTERM
    assert len(said(errors)) == 1
    assert said(errors)[0].startswith("diptych: stopped by SIGTERM")
    assert seconds < WITHIN
    assert not (tmp_path / "a").exists()


def test_a_checkpoint_that_is_being_written_is_finished(tmp_path, whole):
    """A signal waits for it, and for that of the last finished step."""
    flags = ["--save.every-steps", "2", "--save.keep", "-1"]
    run = Diptych(tmp_path, [*TRAIN[:2], *flags], SAVING, a_second)
    run.wait_until_it_hangs()
    run.signal(signal.SIGTERM)
    code, errors, seconds = run.end()
    assert code == AGAIN
    [sentence] = said(errors)
    steps = [step_of(path) for path in checkpoints(tmp_path / "run")]
    assert f"stopped at step {steps[-1]} of 12 by SIGTERM; everything is saved" in sentence
    assert seconds < WITHIN
    assert steps[:2] == [2, 4]


@pytest.mark.parametrize("place", [SAVING, IN_A_STEP])
def test_a_second_signal_ends_it_at_once(tmp_path, place):
    """The checkpoint before the one that is being written stays whole."""
    run = Diptych(tmp_path, [*TRAIN[:2], "--save.every-steps", "2"], place, hang_in_a_call)
    run.wait_until_it_hangs()
    run.signal(signal.SIGTERM)
    time.sleep(0.5)  # later than an echo
    run.signal(signal.SIGINT)
    code, errors, seconds = run.end()
    assert code == 128 + signal.SIGINT
    assert said(errors) == []
    assert seconds < 1
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-00000002"]


def test_the_echo_of_a_signal_is_no_second_one(tmp_path):
    """timeout and the like signal a process and its group."""
    run = Diptych(tmp_path, TRAIN, IN_A_STEP)
    run.wait_until_it_hangs()
    run.signal(signal.SIGTERM)
    run.signal(signal.SIGTERM)
    code, errors, _ = run.end()
    assert code == AGAIN
    assert "everything is saved" in said(errors)[-1]


def with_a_child(hang):
    def started():
        Path("child").write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
        hang()

    IN_A_STEP(started)


def test_nothing_that_it_started_outlives_it(tmp_path):
    run = Diptych(tmp_path, TRAIN, with_a_child, hang_in_a_call)
    run.wait_until_it_hangs()
    run.signal(signal.SIGTERM)
    assert run.end()[0] == AGAIN
    command = Path("/proc", (tmp_path / "child").read_text(), "cmdline")
    assert not command.exists() or command.read_bytes() == b""  # a zombie's is empty
