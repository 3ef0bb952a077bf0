"""Who waits for a worker listens, and no worker is left behind, however anybody ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from diptych.data import workers as workers_module
from diptych.data.ring import Ring
from diptych.data.workers import in_order
from diptych.errors import DataError, DataWarning
from tests.forked import Script

PATIENCE = 30.0
"""Seconds after which a test fails that would wait for ever."""


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """The living children, given some time to go; not those that other tests started."""
    children = [child for child in process.children() if child not in BEFORE]
    _, alive = psutil.wait_procs(children, timeout=5)
    return alive


BEFORE = list[psutil.Process]()


@pytest.fixture(autouse=True)
def _before():
    BEFORE[:] = psutil.Process().children()


def read(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_answers_come_in_order_with_their_tensors(processes):
    def work(item, note):
        return {
            "pixels": torch.full((item, 3, 5), item, dtype=torch.uint8),
            "ids": torch.arange(item),
            "level": torch.tensor(item / 2),
            "name": f"number {item}",
        }

    answers = list(in_order(work, range(12), processes))
    assert [answer["name"] for answer in answers] == [f"number {n}" for n in range(12)]
    for number, answer in enumerate(answers):
        assert answer["pixels"].shape == (number, 3, 5)
        assert (answer["pixels"] == number).all()
        assert answer["ids"].tolist() == list(range(number))
        assert answer["level"] == number / 2
        answer["ids"].mul_(2)  # nobody else's memory
    assert answers[5]["ids"].tolist() == [0, 2, 4, 6, 8]
    assert workers_of(psutil.Process()) == []


@pytest.mark.parametrize("processes", [0, 2])
def test_a_stop_is_heard_while_a_read_hangs(tmp_path, processes):
    os.mkfifo(tmp_path / "hangs")

    def work(item, note):
        return read(tmp_path / "hangs") if item == 2 else item

    def ask(number, frame):
        raise TimeoutError("asked to stop")

    before = signal.signal(signal.SIGALRM, ask)
    answers = in_order(work, range(10), processes)
    try:
        assert [next(answers), next(answers)] == [0, 1]
        signal.alarm(1)
        with pytest.raises(TimeoutError, match="asked to stop"):
            next(answers)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert workers_of(psutil.Process()) == []


@pytest.mark.parametrize("processes", [0, 1])
def test_a_read_that_takes_long_is_said_once(tmp_path, processes, monkeypatch):
    monkeypatch.setattr(workers_module, "SLOW", 0.2)
    os.mkfifo(tmp_path / "slow")

    def work(item, note):
        note.reading(lambda: "the slow file")
        return read(tmp_path / "slow") if item == 1 else b""

    answers = in_order(work, range(3), processes)
    writer = threading.Timer(2, (tmp_path / "slow").write_bytes, [b"late"])
    writer.start()
    with pytest.warns(DataWarning, match="reading the slow file has taken") as said:
        assert list(answers) == [b"", b"late", b""]
    writer.join()
    assert len(said) == 1


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (
            signal.SIGKILL,
            r"killed \(signal 9\), probably because the memory was full; fewer --data",
        ),
        (signal.SIGXCPU, "killed by SIGXCPU; with --data.workers 0"),
    ],
)
def test_a_killed_process_is_one_sentence(number, sentence):
    def work(item, note):
        if item == 3:
            os.kill(os.getpid(), number)
        return item

    answers = in_order(work, range(100), 2)
    assert [next(answers) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match=sentence):
        next(answers)
    assert workers_of(psutil.Process()) == []


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "the memory is full; fewer --data.workers"),
        (KeyError("column"), r"KeyError: 'column' \(test_workers.py, line \d+\)"),
    ],
)
def test_an_error_is_one_sentence_with_its_cause(processes, error, sentence):
    def work(item, note):
        raise error

    with pytest.raises(DataError, match=sentence) as raised:
        list(in_order(work, range(3), processes))
    assert type(error).__name__ in str(raised.value.__cause__) + repr(raised.value.__cause__)


HANGING = """
import os, sys, time
from diptych.data.workers import in_order
def work(item, note):
    return open(sys.argv[1]).read() if item else os.getpid()
for answer in in_order(work, range(10), 2):
    print(answer, flush=True)
    if len(sys.argv) > 2:
        sys.exit()
"""


def test_no_worker_outlives_a_killed_parent(tmp_path):
    """Both are blocked in a read that heeds no signal, and one is stopped."""
    os.mkfifo(tmp_path / "hangs")
    script, deadline = Script(HANGING, tmp_path / "hangs"), time.monotonic() + PATIENCE
    while not script.said():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = psutil.Process(script.pid).children()
    assert len(workers) == 2
    if sys.platform == "linux":
        workers[0].suspend()
    script.signal(signal.SIGKILL)
    script.end()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE)
    assert alive == []


def test_a_script_that_ends_early_ends(tmp_path):
    os.mkfifo(tmp_path / "hangs")
    command = [sys.executable, "-c", HANGING, str(tmp_path / "hangs"), "leave"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.wait(PATIENCE) == 0


SMALL_MEMORY = """
mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"
"""
SCRIPT = """
import torch
from diptych.data.ring import Ring
from diptych.data.workers import in_order
work = lambda item, note: torch.full((1 << 22,), item, dtype=torch.uint8)
for ring in (None, Ring(slots=4, size=1 << 22), Ring(slots=4, size=1)):
    assert [int(answer[-1]) for answer in in_order(work, range(6), 2, ring)] == list(range(6))
"""


def test_batches_need_no_shared_memory_folder():
    """4 MB each where /dev/shm has 64 kB. Only root may try it."""
    inside = ["unshare", "-m", "sh", "-c", SMALL_MEMORY, "sh"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("the system lets nobody mount a small /dev/shm")
    subprocess.run([*inside, sys.executable, "-c", SCRIPT], check=True, timeout=120)


@pytest.mark.parametrize("size", [4000, 64])
def test_answers_lie_in_the_ring_or_beside_it(size):
    """In slots that hold any of them, or hardly one: the same answers, each until the next."""

    def work(item, note):
        return {"pixels": torch.full((item, 3, 5), item), "ids": torch.arange(item), "name": item}

    ring = Ring(slots=3, size=size)
    for number, answer in enumerate(in_order(work, range(12), 2, ring)):
        assert answer["name"] == number
        assert (answer["pixels"] == number).all()
        assert answer["pixels"].shape == (number, 3, 5)
        assert answer["ids"].tolist() == list(range(number))
        last = answer["ids"]
    memory = range(
        start := torch.frombuffer(ring.slot(0), dtype=torch.uint8).data_ptr(), start + 3 * size
    )
    assert (last.data_ptr() in memory) == (size == 4000)
    assert workers_of(psutil.Process()) == []


def test_a_ring_that_no_memory_holds_is_one_sentence():
    with pytest.raises(DataError, match="a smaller --data.prefetch needs less"):
        Ring(slots=1 << 20, size=1 << 40)
