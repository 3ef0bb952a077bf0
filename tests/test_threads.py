"""Who waits for threads is told what they wait for."""

import os
import threading

import pytest

from diptych.errors import DataWarning
from diptych.threads import ahead


def test_results_come_in_order_whoever_is_slow():
    first = threading.Event()

    def work(item):
        if item == 0:
            assert first.wait(20)
        if item == 3:
            first.set()
        return item * item

    assert list(ahead(work, range(6), threads=2, depth=3)) == [0, 1, 4, 9, 16, 25]


def test_a_read_that_takes_long_is_said_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr("diptych.threads.SLOW", 0.2)
    pipe = tmp_path / "slow"
    os.mkfifo(pipe)

    def work(item):
        return pipe.read_bytes() if item == 1 else b""

    writer = threading.Timer(1, pipe.write_bytes, [b"late"])
    writer.start()
    with pytest.warns(DataWarning, match="reading number 1 has taken") as said:
        found = list(ahead(work, range(3), 2, 2, name=lambda item: f"number {item}"))
    writer.join()
    assert found == [b"", b"late", b""]
    assert len(said) == 1
