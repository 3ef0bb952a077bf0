"""Two trainings in one folder: the second is refused, and nothing of the first is touched."""

import errno
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from diptych import durable
from diptych.checkpoints.steps import checkpoints
from diptych.config import DataConfig
from diptych.config.serialize import to_json
from diptych.errors import ConfigError, DiptychError, DiptychWarning
from diptych.training import fit, load_run
from tests.distributed.harness import run_processes
from tests.training.runs import assert_same_bits, small_run
from tests.training.test_fit import start


def contents(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("resume", [False, True])
def test_the_second_is_refused_and_the_first_goes_on(tmp_path, resume):
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text(to_json(small_run(out, steps=4)))
    first = start(out, "resume")
    deadline = time.monotonic() + 300
    while not (out / "lock").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    first.signal(signal.SIGSTOP)  # it is there as long as the second asks
    with pytest.raises(ConfigError, match=f"another training is under way .*process {first.pid} o"):
        fit(small_run(out, steps=4, seed=1), resume=resume, progress=False)
    first.signal(signal.SIGCONT)
    assert first.end(400)[0] == 0
    assert not (out / "lock").exists()
    assert load_run(out).seed == 0
    whole = fit(small_run(tmp_path / "whole", steps=4), progress=False)
    assert_same_bits(whole, checkpoints(out)[-1])


def test_what_a_killed_run_left_is_swept_under_the_lock(tmp_path):
    out = tmp_path / "run"
    run = small_run(out, steps=4)
    fit(run, progress=False)
    junk = [
        out / ".run.json.ab12cd34.partial",
        out / ".metrics.jsonl.ab12cd34.partial",
        out / "checkpoints" / ".step-00000008.ab12cd34.partial",
        out / "checkpoints" / ".step-00000008.partial",  # of an older version
        out / "checkpoints" / "..step-00000008.partial.ab12cd34.partial",
    ]
    for folder in junk:
        folder.mkdir()
        (folder / "half").write_bytes(b"half of it")
    (out / "lock").write_text("process 1 on a machine that is gone")
    with durable.lock(out / "lock"), pytest.raises(ConfigError, match="another training"):
        fit(replace(run, steps=8), resume=True, progress=False)
    assert all(folder.exists() for folder in junk)
    fit(replace(run, steps=8), resume=True, progress=False)
    assert [path for path in out.rglob("*") if path.name.startswith(".")] == []


@pytest.mark.parametrize("there", [False, True])
def test_a_failed_start_leaves_nothing(tmp_path, there):
    out = tmp_path / "new" / "run"
    if there:
        out.mkdir(parents=True)
    with pytest.raises(DiptychError, match="nowhere"):
        fit(small_run(out, data=DataConfig(path="nowhere.tar", workers=0)), progress=False)
    assert out.exists() == there
    assert (tmp_path / "new").exists() == there
    assert not there or list(out.iterdir()) == []


def test_without_locks_it_is_said_and_nothing_is_swept(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    other = tmp_path / "run" / "checkpoints" / ".step-00000004.ab12cd34.partial"
    other.mkdir(parents=True)
    with pytest.warns(DiptychWarning, match="has no locks"):
        fit(small_run(tmp_path / "run", steps=2), progress=False)
    assert other.exists()


def refused(peers, out: str) -> str:
    with pytest.raises(DiptychError) as raised:
        fit(small_run(Path(out), steps=2), progress=False)
    return str(raised.value)


def test_all_processes_learn_of_it(tmp_path):
    with durable.lock(tmp_path / "run" / "lock"):
        said = run_processes(2, refused, str(tmp_path / "run"))
    assert said[0] == said[1]
    assert f"another training is under way in {tmp_path / 'run'} (process {os.getpid()}" in said[0]
