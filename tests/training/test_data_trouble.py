"""Data that hang, and processes that die over them: the steps that are done are saved."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.stalls import Diptych, at_call, hang_in_a_call, hang_in_python

TRAIN = ["train", "tests.training.runs:small", "--save.every-steps", "6", "--out", "run"]
AGAIN, WITHIN = 75, 10.0
SEVENTH = {0: 7, 2: 4}
"""Loader processes -> which of the calls in one of them is for the seventh step."""


IN_A_SAMPLE = partial(at_call, "diptych.data.chunks", "_Row", 8 * 3 + 1)
"""The first of the fourth step of a loader process."""


def in_a_step(calls: int):
    return partial(at_call, "diptych.data.workers", "_attempt", calls)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_out_of_memory() -> None:
    raise MemoryError


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("hang", [hang_in_python, hang_in_a_call])
def test_a_stop_is_heard_while_the_data_hang(tmp_path, workers, hang):
    flags = ["--data.workers", str(workers)]
    run = Diptych(tmp_path, [*TRAIN, *flags], in_a_step(SEVENTH[workers]), hang)
    run.wait_until_it_hangs()
    wait_for(tmp_path / "run" / "checkpoints" / "step-00000006")
    children = psutil.Process(run.pid).children()
    run.signal(signal.SIGTERM)
    code, errors, seconds = run.end()
    assert code == AGAIN
    assert "stopped at step 6 of 12 by SIGTERM; everything is saved" in errors
    assert seconds < WITHIN
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []


@pytest.mark.parametrize(
    ("where", "what", "sentence"),
    [
        (in_a_step(SEVENTH[2]), kill_itself, "a process that reads data was killed (signal 9)"),
        (IN_A_SAMPLE, run_out_of_memory, "reading data failed: the memory is full"),
    ],
    ids=["killed", "no memory"],
)
def test_a_process_that_dies_ends_the_run_with_what_is_done(tmp_path, where, what, sentence):
    flags = ["--data.workers", "2", "--save.every-steps", "0"]
    code, errors, _ = Diptych(tmp_path, [*TRAIN, *flags], where, what).end()
    assert code == 2
    [said] = [line for line in errors.splitlines() if line.startswith("diptych:")]
    assert sentence in said
    assert said.endswith("Continue with: diptych train --resume run")
    assert (tmp_path / "run" / "checkpoints" / "step-00000006").is_dir()
    assert "Traceback" not in errors
