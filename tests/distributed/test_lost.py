"""Several real processes of which one is lost, fails or is told to stop: all end, and one says
why."""

import os
import re
import signal
import time
from functools import partial

import pytest
import torch.distributed as dist

from diptych.checkpoints.steps import check, checkpoints, step_of
from diptych.errors import ConfigError
from tests.stalls import Diptych, at_call, hang_in_a_call, hang_in_python

TRAIN = ["train", "tests.training.runs:small", "--save.every-steps", "0"]
IN_A_STEP = partial(at_call, "diptych.training.loop", "accumulate", 4)
IN_THE_FIRST_STEP = partial(at_call, "diptych.training.loop", "accumulate", 1)
AGAIN, WITHIN = 75, 30.0
STORES = []


def nothing(hang):
    """Nowhere."""


def a_second():
    time.sleep(1)


def fail():
    raise ZeroDivisionError("of somebody's objective")


def mistake():
    raise ConfigError("of somebody's objective")


def start(folder, count, prepare, hang=hang_in_a_call, arguments=TRAIN):
    """`count` processes, of which the last one hangs, or the one that `prepare` is given for."""
    # As under torchrun: who started them holds the store.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    STORES.append(store)
    found = []
    for rank in range(count):
        environment = {
            "RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        found.append(Diptych(folder, arguments, prepare.get(rank, nothing), hang, environment))
    return found


def ends(processes):
    """Exit codes, the sentences and tracebacks of all of them together, and the time it took."""
    results = [process.end() for process in processes]
    lines = [line for _, errors, _ in results for line in errors.splitlines()]
    said = [line for line in lines if line.startswith(("diptych:", "Traceback", "[rank"))]
    return [code for code, _, _ in results], said, sum(seconds for _, _, seconds in results)


@pytest.mark.parametrize(("count", "lost"), [(2, 1), (2, 0), (4, 2)])
def test_a_lost_process_ends_all_with_one_sentence(tmp_path, count, lost):
    """Nothing is lost with it, also where it is the first, which saves otherwise."""
    processes = start(tmp_path, count, {lost: IN_A_STEP})
    processes[lost].wait_until_it_hangs()
    processes[lost].signal(signal.SIGKILL)
    codes, said, seconds = ends(processes)
    wanted = [AGAIN] * count
    wanted[lost] = -signal.SIGKILL
    assert codes == wanted
    assert len(said) == 1, said
    assert (
        f"stopped at step 3 of 12 by the loss of rank {lost} (process {processes[lost].pid} on"
        in said[0]
    )
    assert "everything is saved. Continue with: diptych train --resume run" in said[0]
    assert seconds < WITHIN
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-00000003"]


WRITING = partial(at_call, "diptych.training.checkpoint", "put", 1)
SAVE = [*TRAIN[:2], "--save.every-steps", "2"]


@pytest.mark.parametrize("lost", [0, 1])
def test_one_that_is_lost_while_it_writes_ends_all(tmp_path, lost):
    """Its disk hangs; the others come to the next checkpoint, and wait for it. Half a folder is no
    checkpoint, and that of the last finished step is written without it."""
    processes = start(tmp_path, 2, {lost: WRITING}, hang_in_python, SAVE)
    processes[lost].wait_until_it_hangs()
    time.sleep(1)
    assert checkpoints(tmp_path / "run") == []
    processes[lost].signal(signal.SIGKILL)
    codes, said, seconds = ends(processes)
    assert codes[1 - lost] == AGAIN
    assert len(said) == 1, said
    assert re.search(rf"at step [34] of 12 by the loss of rank {lost} .*; everything is", said[0])
    assert seconds < WITHIN
    [folder] = checkpoints(tmp_path / "run")
    check(folder)


def test_a_signal_to_all_while_one_writes_is_heard(tmp_path):
    """What is being written is finished, and so is that of the last finished step."""
    processes = start(tmp_path, 2, {1: WRITING}, a_second, [*SAVE, "--save.keep", "0"])
    processes[1].wait_until_it_hangs()
    for process in processes:
        process.signal(signal.SIGTERM)
    codes, said, seconds = ends(processes)
    assert codes == [AGAIN, AGAIN]
    assert len(said) == 1, said
    first, *_, last = [step_of(folder) for folder in checkpoints(tmp_path / "run")]
    assert first == 2
    assert f"stopped at step {last} of 12 by SIGTERM; everything is saved" in said[0]
    assert seconds < WITHIN


def test_an_error_in_one_process_is_named_by_the_first(tmp_path):
    processes = start(tmp_path, 2, {1: IN_A_STEP}, fail)
    codes, said, seconds = ends(processes)
    assert codes == [AGAIN, 1]
    sentences = [line for line in said if "diptych:" in line]
    assert len(sentences) == 1, said
    error = "an error on rank 1 (ZeroDivisionError: of somebody's objective)"
    assert f"stopped at step 3 of 12 by {error}; everything is saved" in sentences[0]
    assert len(said) == 2  # a defect keeps its traceback
    assert seconds < WITHIN


def test_a_mistake_that_one_process_finds_is_one_in_all(tmp_path):
    """None of them is worth another try: each ends with the same code."""
    processes = start(tmp_path, 2, {1: IN_THE_FIRST_STEP}, mistake)
    codes, said, _ = ends(processes)
    assert codes == [2, 2]
    [sentence] = said
    assert "an error on rank 1 (ConfigError: of somebody's objective)" in sentence
    assert not checkpoints(tmp_path / "run")


def test_a_signal_to_all_while_one_hangs_ends_all(tmp_path):
    processes = start(tmp_path, 2, {1: IN_A_STEP})
    processes[1].wait_until_it_hangs()
    for process in processes:
        process.signal(signal.SIGTERM)
    for process in processes:  # as torchrun passes it on
        process.signal(signal.SIGTERM)
    codes, said, seconds = ends(processes)
    assert codes[0] == AGAIN
    assert len(said) == 1, said
    assert "stopped at step 3 of 12 by SIGTERM" in said[0]
    assert "everything is saved" in said[0]
    assert seconds < WITHIN / 2
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-00000003"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--data.path", "nowhere.csv"], "nowhere.csv doesn't exist"),
        (["--out", "s3://bucket/run"], "s3://bucket/run is no folder of this machine"),
        (["--batch-size", "7"], "can't be split evenly among 2 processes"),
    ],
)
def test_a_mistake_is_said_once_and_leaves_nothing(tmp_path, flags, says):
    processes = start(tmp_path, 2, {}, arguments=[*TRAIN, *flags])
    codes, said, _ = ends(processes)
    assert codes == [2, 2]  # each finds the mistake, or hears of the other's before
    assert len(said) == 1, said
    assert says in said[0]
    assert sorted(os.listdir(tmp_path)) == ["errors0.txt", "errors1.txt"]
