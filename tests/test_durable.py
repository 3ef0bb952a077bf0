"""What promises "whole or not at all" is written in the order that a power cut can't undo."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from diptych import durable, models, pretrained
from diptych.checkpoints.steps import checkpoints
from diptych.config import ModelConfig, Run
from diptych.distributed import Peers
from diptych.evaluation import Result
from diptych.inputs import build_tokenizer
from diptych.reports import headline, write
from diptych.training import checkpoint as training
from diptych.training.fit import assemble
from diptych.weights import save_model


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, str]]:
    """Each fsync, rename and removal: its name and the last part of the path."""
    made: list[tuple[str, str]] = []
    fsync, replace, rename, unlink = os.fsync, Path.replace, Path.rename, os.unlink

    def of(descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

    def record(name, call, path_of):
        def recorded(*arguments, **options):
            made.append((name, path_of(arguments)))
            return call(*arguments, **options)

        return recorded

    monkeypatch.setattr(os, "fsync", record("sync", fsync, lambda a: of(a[0])))
    monkeypatch.setattr(Path, "replace", record("rename", replace, lambda a: Path(a[1]).name))
    monkeypatch.setattr(Path, "rename", record("rename", rename, lambda a: Path(a[1]).name))
    monkeypatch.setattr(os, "unlink", record("remove", unlink, lambda a: str(a[0])))
    return made


def tiny_state():
    """A run of the tiny model before its first step, and its tokenizer."""
    state, _, _ = assemble(Run(model=ModelConfig(name="tiny"), steps=3), Peers())
    config = state.model.config
    return state, build_tokenizer(config.tokenizer, config.text.context_length)


def test_a_file_is_flushed_then_named_then_its_folder_is_flushed(tmp_path, calls):
    durable.write_file(tmp_path / "a.json", lambda path: path.write_text("{}"))
    kept = [call for call in calls if call[1] in ("a.json", tmp_path.name)]
    assert kept == [("sync", "a.json"), ("rename", "a.json"), ("sync", tmp_path.name)]


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as raised:
        durable.write_file(target, fail)
    assert raised.value.filename == str(target)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert target.read_text() == "old"


def test_what_another_process_has_put_there_meanwhile_stays(tmp_path):
    def write():
        with durable.new_folder(tmp_path / "out", replaceable=lambda _: False) as room:
            (room / "out").mkdir()
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").write_text("x")

    with pytest.raises(FileExistsError, match="another process has just made it"):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]


def test_a_librarys_own_writer_fails_as_the_system_does(tmp_path):
    def write(part):
        part.write_text("half")
        with durable.by_library(part):
            raise RuntimeError("No space left\nand a trace of C++")

    with pytest.raises(OSError, match=r"its writer broke off \(No space left\)"):
        durable.write_file(tmp_path / "a.bin", write)
    assert not list(tmp_path.iterdir())


def test_no_file_takes_the_place_of_a_pipe_or_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="none takes its place"):
        durable.write_file(tmp_path / "pipe", lambda part: part.write_text("x"))
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_sweep_removes_what_killed_writers_left_and_nothing_else(tmp_path):
    for name in (".a.json.x1.partial", ".b.json.x2.partial", ".hidden", "a.json"):
        (tmp_path / name).mkdir()
    durable.sweep(tmp_path, "a.json")
    assert {path.name for path in tmp_path.iterdir()} == {".b.json.x2.partial", ".hidden", "a.json"}
    durable.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".hidden", "a.json"}


def test_sweep_gives_back_what_was_about_to_be_replaced(tmp_path):
    """A kill between the two renames of `new_folder` leaves neither under its name."""
    room = tmp_path / ".model.x1.partial"
    for name in ("replaced", "model"):
        (room / name).mkdir(parents=True)
        (room / name / "which").write_text(name)
    durable.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "which").read_text() == "replaced"


def test_the_next_writer_removes_what_a_killed_one_left_and_no_living_ones(tmp_path):
    target = tmp_path / "a[1].json"
    left = durable.unfinished(target)
    left.mkdir()
    (left / "a[1].json").write_text("half")

    def meanwhile(part: Path) -> None:
        part.write_text("first")
        durable.write_file(target, lambda other: other.write_text("second"))
        assert part.read_text() == "first"

    durable.write_file(target, meanwhile)
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_who_is_ended_takes_along_what_it_was_writing(tmp_path):
    target = tmp_path / "out"
    target.mkdir()

    def write() -> None:
        with durable.new_folder(target) as room:
            target.rename(room / "replaced")
            durable.abandon()
            assert list(tmp_path.iterdir()) == [target]

    with pytest.raises(FileNotFoundError):
        write()


def test_a_folder_that_is_removed_is_never_seen_in_part(tmp_path, monkeypatch):
    folder = tmp_path / "step-1"
    folder.mkdir()
    (folder / "a").touch()
    seen = []
    rmtree = shutil.rmtree
    monkeypatch.setattr(
        shutil, "rmtree", lambda *a, **k: seen.append(folder.exists()) or rmtree(*a, **k)
    )
    durable.remove(folder)
    assert seen == [False]
    assert list(tmp_path.iterdir()) == []


def test_lines_are_added_whole_after_what_a_kill_cut_off(tmp_path):
    path = tmp_path / "a.jsonl"
    durable.append(path, "1\n")
    durable.append(path, "2\n3\n")
    path.write_bytes(path.read_bytes() + b'{"half')
    durable.append(path, "4\n")
    assert path.read_bytes() == b'1\n2\n3\n{"half\n4\n'


def test_a_lock_keeps_others_out_and_says_who_holds_it(tmp_path):
    path = tmp_path / "new" / "run" / "lock"
    with durable.lock(path) as held:
        assert held
        with (
            pytest.raises(BlockingIOError, match=f"process {os.getpid()} on "),
            durable.lock(path),
        ):
            pass
    with durable.lock(path):
        (path.parent / "mine").touch()
    assert [path.name for path in path.parent.iterdir()] == ["mine"]


def test_a_folder_made_for_a_lock_goes_with_it_if_it_is_empty(tmp_path):
    with durable.lock(tmp_path / "new" / "run" / "lock"):
        pass
    assert list(tmp_path.iterdir()) == []


HOLD = """
import os, sys, time
from pathlib import Path
from diptych.durable import lock
with lock(Path(sys.argv[1])):
    if os.fork() == 0:
        print("held", flush=True)
        time.sleep(60)  # a worker that outlives its parent
        os._exit(0)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_killed_process_lets_go_though_its_worker_lives(tmp_path):
    path = tmp_path / "lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            assert process.stdout.readline() == b"held\n"
            with (
                pytest.raises(BlockingIOError, match=f"process {process.pid} on "),
                durable.lock(path),
            ):
                pass
            process.kill()
            process.wait()
            with durable.lock(path) as held:
                assert held
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_of_many_at_once_one_holds_the_lock(tmp_path):
    """Also where the one before has just deleted the file."""
    inside, most, refused = [0], [0], [0]

    def work() -> None:
        for _ in range(200):
            try:
                with durable.lock(tmp_path / "lock"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0)
                    inside[0] -= 1
            except BlockingIOError:
                refused[0] += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert refused[0] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="fcntl")
def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with durable.lock(tmp_path / "lock") as one, durable.lock(tmp_path / "lock") as other:
        assert (one, other) == (False, False)


def test_a_checkpoint_lasts_before_the_older_one_goes(tmp_path, calls):
    state, tokenizer = tiny_state()
    state.step = 1
    training.save(state, tokenizer, tmp_path, keep=1)
    calls.clear()
    state.step = 2
    training.save(state, tokenizer, tmp_path, keep=1)
    renames = [place for place, call in enumerate(calls) if call == ("rename", "step-00000002")]
    named = renames[-1]  # the earlier one is that of the model's own folder, inside the unnamed one
    lasting = calls.index(("sync", "checkpoints"), named)
    flushed = {name for kind, name in calls[:named] if kind == "sync"}
    assert {"model.safetensors", "model.json", "training.safetensors", "training.json"} <= flushed
    removed = [place for place, call in enumerate(calls) if call == ("remove", "model.safetensors")]
    assert removed
    assert min(removed) > lasting
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


@pytest.mark.parametrize("keep", [0, -1])
def test_keeping_no_number_of_checkpoints_keeps_all(tmp_path, keep):
    state, tokenizer = tiny_state()
    for state.step in (1, 2, 3):
        training.save(state, tokenizer, tmp_path, keep=keep)
    assert len(checkpoints(tmp_path)) == 3


def test_files_have_the_mode_that_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        save_model(tmp_path / "model", models.build(pretrained.get("tiny")))
        write(tmp_path / "page.html", "title", [headline({"a": "1"})])
        Result(task="zero-shot", metrics={}, protocol={}, data={}, model={}).save(
            tmp_path / "r.json"
        )
    finally:
        os.umask(before)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"model.safetensors", "model.json", "page.html", "r.json"} == {p.name for p in written}
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o640}
