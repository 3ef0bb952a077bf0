"""Commands whose output is a shard: whole or not used, and nobody left running."""

import os
import shlex
import signal
import time

import psutil
import pytest

from diptych.data import open_source, write_shards
from diptych.data.command import write_output
from diptych.data.retry import Retry
from diptych.data.spool import Spool
from diptych.errors import DataError, DataWarning
from tests.data.builders import config, samples
from tests.forked import Script

PATIENCE = 30.0
"""Seconds after which a test fails that would wait for ever."""


@pytest.fixture
def shard(tmp_path):
    [path] = write_shards(tmp_path / "shards", samples(4))
    return shlex.quote(str(path))


@pytest.fixture
def spool(tmp_path):
    return Spool(folder=tmp_path / "pipes", timeout=20.0, most=1e9, flags="--data.", retry=Retry(0))


def running(marker: str) -> list[psutil.Process]:
    """Living processes with the marker among their words."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if marker in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def is_gone(marker: str) -> bool:
    deadline = time.monotonic() + PATIENCE
    while running(marker):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("(head -c 1000 {shard}; exit 9) | cat", "failed with status 9"),
        ("cat {shard}; false; true", "failed with status 1"),
        ("cat {shard}; kill -SEGV $$", r"was killed \(signal 11\)"),
        ("cat nowhere.tar | cat", "status 1: cat: nowhere.tar: No such file"),
        ("head -c 1000 {shard}", "pipe:head .* is cut short at byte 1000.* it isn't used"),
        ("gzip -c {shard}", "pipe:gzip .* is compressed"),
        ("true", "is cut short at byte 0"),
    ],
)
def test_an_output_that_is_not_whole_is_refused_and_not_kept(shard, spool, command, says):
    with pytest.raises(DataError, match=says):
        spool.get(command.format(shard=shard))
    assert list(spool.folder.glob("*.tar")) == []


def test_complaints_without_end_block_nothing(shard, spool):
    assert spool.get(f"head -c 3000000 /dev/zero >&2; cat {shard}").stat().st_size > 0


def test_what_a_command_leaves_behind_is_not_waited_for(shard, spool):
    """It holds both ends open; it ends with the command."""
    begin = time.monotonic()
    assert spool.get(f"sleep 7654.25 & cat {shard}").stat().st_size > 0
    assert time.monotonic() - begin < 15
    assert is_gone("7654.25")


def test_a_command_that_gives_nothing_is_ended(tmp_path):
    spool = Spool(folder=tmp_path, timeout=0.5, most=0.0, flags="--data.")
    says = r"nothing for 0.5 s and was ended; run it by hand .* \(--data.pipe-timeout\)"
    with pytest.raises(DataError, match=says):
        spool.get("echo begins; sleep 7654.5 | cat")
    assert is_gone("7654.5")


def test_a_command_without_end_meets_the_limit(tmp_path):
    spool = Spool(folder=tmp_path, timeout=0.0, most=5e6, flags="--data.")
    with pytest.raises(DataError, match=r"may take 0.005 GB in all \(--data.pipe-limit\)"):
        spool.get("cat /dev/zero")


def test_long_silence_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("diptych.data.command.SLOW", 0.1)
    with pytest.warns(DataWarning, match="reading pipe:sleep 1; echo has taken"):
        write_output("sleep 1; echo", tmp_path / "out", timeout=60.0)


def test_without_bash_a_pipeline_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    write_output("echo a", tmp_path / "out", timeout=60.0)
    assert (tmp_path / "out").read_text() == "a\n"
    with pytest.raises(DataError, match="bash, which isn't installed"):
        write_output("echo a | cat", tmp_path / "out", timeout=60.0)


SCRIPT = """
import sys
from pathlib import Path
from diptych.data.retry import Retry
from diptych.data.spool import Spool
Spool(folder=Path(sys.argv[1]), timeout=0, most=0, flags="").get(sys.argv[2])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_command_outlives_who_ran_it(tmp_path, number):
    marker = f"{7654 + number}.75"
    command = f"sleep {marker} | cat"
    process = Script(SCRIPT, tmp_path / "pipes", command)
    deadline = time.monotonic() + 4 * PATIENCE
    while not running(marker) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.signal(number)
    process.end()
    assert is_gone(marker)


def test_what_a_killed_writer_left_is_swept(shard, spool):
    spool.get(f"cat {shard}")
    [kept] = spool.folder.glob("*.tar")
    kept.unlink()
    left = spool.folder / f".{kept.name}.0.partial"
    left.mkdir()
    (left / kept.name).write_bytes(b"half")
    spool.get(f"cat {shard}")
    assert not left.exists()


def test_one_failing_command_of_several_is_left_out_and_listed(tmp_path):
    paths = write_shards(tmp_path / "shards", samples(40), per_shard=10)
    data = config(tmp_path, f"pipe:cat {tmp_path}/shards/{{000000..000003}}.tar", retries=0)
    paths[2].unlink()
    with pytest.warns(DataWarning) as said:
        source = open_source(data)
    assert len(source) == 30
    [bad] = source.bad_samples
    assert bad.file.endswith("000002.tar")
    assert "No such file" in bad.reason
    words = [str(each.message) for each in said]
    assert any("4 commands" in each and "are copied to" in each for each in words)
    assert any("1 of 4 shards can't be read and are left out" in each for each in words)


def test_too_many_unreadable_shards_are_refused(tmp_path):
    paths = write_shards(tmp_path / "shards", samples(40), per_shard=10)
    for path in paths[:2]:
        path.write_bytes(b"no tar" * 100)
    with pytest.raises(DataError, match=r"no tar archive|not a tar .*2 of 4 shards can't be read"):
        open_source(config(tmp_path, tmp_path / "shards"))
    os.mkfifo(tmp_path / "shards" / "000004.tar")
    paths[0].unlink()
    paths[1].unlink()
    with pytest.warns(DataWarning, match="1 of 3 shards .*000004.tar is not a file"):
        assert len(open_source(config(tmp_path, tmp_path / "shards"))) == 20
