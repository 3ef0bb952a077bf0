"""A folder of copies stays within its bound, whoever writes, and a full disk stops nobody."""

import contextlib
import errno
import multiprocessing
import os

import pytest

from diptych.data import open_source, write_shards
from diptych.data.bounded_folder import BoundedFolder, NoRoom
from diptych.data.pages import Pages
from diptych.data.retry import Retry
from diptych.data.spool import Spool
from diptych.errors import DataError, DataWarning
from tests.data.builders import config, samples


def kept(folder) -> dict[str, int]:
    found = {}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process's, which has made room
            if path.name[0] != ".":
                found[path.name] = path.stat().st_size
    return found


def age(folder, *names) -> None:
    """Have the files used one after the other, long ago."""
    for number, name in enumerate(names):
        os.utime(folder / name, (1000 + number, 1000 + number))


def test_what_was_used_longest_ago_makes_room(tmp_path):
    folder = BoundedFolder(tmp_path, 100.0)
    for name in "abcd":
        folder.put(name, bytes(24))
    age(tmp_path, *"abcd")
    assert folder.read("a", 0, 3) == bytes(3)  # which is a use of it
    folder.put("e", bytes(24))
    assert kept(tmp_path).keys() == {"a", "c", "d", "e"}
    folder.put("f", bytes(101))
    assert "f" not in kept(tmp_path)
    with pytest.raises(NoRoom):
        folder.reserve(101)
    assert list(tmp_path.glob(".*.partial")) == []


def test_files_of_before_count(tmp_path):
    (tmp_path / "old").write_bytes(bytes(90))
    BoundedFolder(tmp_path, 100.0).put("new", bytes(20))
    assert kept(tmp_path) == {"new": 20}


@pytest.mark.parametrize(
    "damage", [b"", b"\xff\xfe7", b"-90", b"9" * 5000, b"1e3"], ids=lambda damage: repr(damage[:6])
)
def test_a_damaged_count_is_made_anew(tmp_path, damage):
    (tmp_path / "old").write_bytes(bytes(70))
    (tmp_path / ".taken").write_bytes(damage)
    BoundedFolder(tmp_path, 100.0).put("new", bytes(20))
    assert (tmp_path / ".taken").read_text() == "90"


def _fill(folder, name):
    for number in range(60):
        folder.put(f"{name}-{number}", bytes(10))
        with folder.unchanged():  # or one that went and one that came are both seen
            assert sum(kept(folder.folder).values()) <= 200


def test_processes_share_one_bound(tmp_path):
    folder = BoundedFolder(tmp_path, 200.0)
    context = multiprocessing.get_context("fork")
    crew = [context.Process(target=_fill, args=(folder, name)) for name in "abc"]
    for process in crew:
        process.start()
    for process in crew:
        process.join(60)
    assert [process.exitcode for process in crew] == [0, 0, 0]
    assert 100 <= sum(kept(tmp_path).values()) <= 200


def test_a_full_disk_gives_half_back_and_goes_on(tmp_path, monkeypatch):
    folder = BoundedFolder(tmp_path, 1000.0)
    for number in range(4):
        folder.put(str(number), bytes(100))
    age(tmp_path, *"0123")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    folder.put("new", bytes(100))
    assert kept(tmp_path).keys() == {"2", "3"}
    for _ in range(2):
        folder.put("new", bytes(100))
    with pytest.warns(DataWarning, match="nothing more can be kept in .*No space left"):
        folder.put("new", bytes(100))
    pages = Pages(folder)
    assert pages.read("file", 10, 2, 5, lambda start, end: bytes(range(start, end))) == b"\2\3\4"
    assert list(tmp_path.glob(".*.partial")) == []


def test_pages_that_lie_on_several_pages_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr("diptych.data.pages.PAGE", 4)
    whole, asked = bytes(range(18)), list[tuple[int, int]]()

    def fetch(start, end):
        asked.append((start, end))
        return whole[start:end]

    pages = Pages(BoundedFolder(tmp_path, 0.0))
    assert pages.read("file", 18, 5, 6, fetch) == whole[5:6]
    assert pages.read("file", 18, 2, 17, fetch) == whole[2:17]
    assert pages.read("file", 18, 17, 18, fetch) == whole[17:]
    assert asked == [(4, 8), (0, 18)]
    assert pages.read("file", 18, 0, 18, fetch) == whole
    assert len(asked) == 2


def piped(tmp_path, most: float, flaky: str = ""):
    paths = write_shards(tmp_path / "shards", samples(40), per_shard=10)
    count = tmp_path / "count"
    command = f"echo run >> {count}; {flaky} cat {tmp_path}/shards/{{000000..000003}}.tar"
    data = config(tmp_path, f"pipe:{command}", pipe_limit=most * paths[0].stat().st_size / 1e9)
    return data, lambda: len(count.read_text().splitlines()), paths


def test_outputs_of_commands_that_had_to_go_are_made_again(tmp_path):
    data, runs, paths = piped(tmp_path, most=2.5)
    with pytest.warns(DataWarning) as said:
        source = open_source(data)
    assert any("is run again whenever its output" in str(each.message) for each in said)
    assert [source[n].captions[0] for n in range(40)] == [f"picture {n}" for n in range(40)]
    pipes = tmp_path / "cache" / "pipes"
    assert 0 < sum(kept(pipes).values()) <= data.pipe_limit * 1e9
    before = runs()
    assert source[39].key == source[38].key[:-1] + "9"
    assert runs() == before  # it is there
    assert source[0].captions == ("picture 0",)
    assert runs() == before + 1
    write_shards(paths[0].parent, samples(10, start=50))
    for path in pipes.glob("*.tar"):
        path.unlink()
    with pytest.raises(DataError, match="gives something else than before; delete"):
        source[0]


def test_nothing_is_run_at_a_start_whose_index_is_there(tmp_path):
    data, runs, _ = piped(tmp_path, most=9.0)
    with pytest.warns(DataWarning, match="4 commands"):
        open_source(data)
    for path in (tmp_path / "cache" / "pipes").glob("*.tar"):
        path.unlink()
    before = runs()
    assert before == 4
    source = open_source(data)  # its probes need some of them
    assert len(source) == 40
    assert runs() <= before + 4


def test_a_command_that_fails_now_and_then_is_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr("diptych.data.retry._FIRST", 0.001)
    mark = tmp_path / "mark"
    data, runs, _ = piped(tmp_path, 9.0, flaky=f"[ -e {mark} ] || {{ touch {mark}; exit 1; }};")
    with pytest.warns(DataWarning, match="4 commands"):
        assert len(open_source(data)) == 40
    assert 4 < runs() <= 8


def test_what_the_shell_does_not_know_is_not_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(Retry, "pause", pytest.fail)
    spool = Spool(folder=tmp_path, timeout=0.0, most=0.0, flags="", retry=Retry(9))
    with pytest.raises(DataError, match="failed with status 127"):
        spool.get("no-such-command-7654")


def test_a_folder_that_cannot_be_is_said_at_once(tmp_path, monkeypatch):
    """A link to a disk that isn't there: what's missing is no output that had to make room."""
    monkeypatch.setattr(Retry, "pause", pytest.fail)
    (tmp_path / "gone").symlink_to("/proc/no-such-disk")
    spool = Spool(folder=tmp_path / "gone" / "pipes", timeout=0.0, most=0.0, flags="")
    with pytest.raises(DataError, match="can't be kept in .*gone/pipes: .*set another cache"):
        spool.get("echo a")
