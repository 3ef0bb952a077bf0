"""Shards are indexed once, by all who start together, into one file that is mapped; what has
changed is walked again, and nothing else."""

import errno
import multiprocessing
import os
import pickle
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from diptych.data import indexing, open_source, shard_index, shard_maker
from diptych.data.indexing import open_index
from diptych.data.shard_index import ShardIndex, pack, unpack
from diptych.data.tar import TarIndex, index_tar
from diptych.distributed import Peers
from diptych.errors import DataError, DataWarning
from tests.data.builders import config, picture, write_tar

SHARDS, EACH = 70, 3
PICTURE = picture(1, side=8)


def write(folder: Path, shards: range) -> list[str]:
    folder.mkdir(exist_ok=True)
    for shard in shards:
        names = [f"{shard:05}-{n}" for n in range(EACH)]
        files = {f"{name}.jpg": PICTURE for name in names}
        files |= {f"{name}.txt": name.encode() for name in names}
        write_tar(folder / f"{shard:05}.tar", files)
    return [str(folder / f"{shard:05}.tar") for shard in shards]


@pytest.fixture
def walked(tmp_path, monkeypatch):
    """Names of the shards that were walked, by any process; those since the last call."""
    log = tmp_path / "walks"
    log.touch()

    def walk(path: Path) -> TarIndex:
        with log.open("a") as file:
            file.write(f"{path.name}\n")
        return index_tar(path)

    def since() -> list[str]:
        lines = log.read_text().split()
        log.write_text("")
        return lines

    monkeypatch.setattr(shard_index, "index_tar", walk)
    return since


def keys(index: ShardIndex) -> list[str]:
    places = map(index.locate, range(len(index)))
    return [index.shard(shard).key(row) for shard, row in places]


def expected(shards: range) -> list[str]:
    return [f"{shard:05}-{n}" for shard in shards for n in range(EACH)]


OPENED: list[str] | None = None


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and OPENED is not None:
        OPENED.append(os.fspath(arguments[0]) if not isinstance(arguments[0], int) else "")


sys.addaudithook(_hear)


@pytest.fixture
def opened(monkeypatch):
    """Every file that is opened."""
    files = list[str]()
    monkeypatch.setattr(sys.modules[__name__], "OPENED", files)
    return files


def test_each_shard_is_walked_once_and_the_second_start_opens_the_index_alone(
    tmp_path, walked, opened
):
    paths = write(tmp_path / "shards", range(SHARDS))
    index = open_index(paths, tmp_path / "cache")
    assert sorted(walked()) == [f"{shard:05}.tar" for shard in range(SHARDS)]
    assert keys(index) == expected(range(SHARDS))
    assert [Path(path).name for path in index.paths()] == [Path(path).name for path in paths]
    opened.clear()
    again = open_index(paths, tmp_path / "cache")
    [place] = (tmp_path / "cache" / "index").iterdir()
    assert opened == [str(place)]
    assert keys(again) == expected(range(SHARDS))
    assert keys(pickle.loads(pickle.dumps(again))) == keys(again)
    assert walked() == []


def test_processes_and_their_workers_share_the_walk(tmp_path, walked):
    """Three that start at once, one of them with two workers: each shard is walked by one."""
    paths = write(tmp_path / "shards", range(300))

    def start(workers: int) -> None:
        index = open_index(paths, tmp_path / "cache", workers=workers)
        os._exit(0 if keys(index) == expected(range(300)) else 1)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=start, args=(workers,)) for workers in (0, 0, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(walked()) == [f"{shard:05}.tar" for shard in range(300)]
    assert len(list((tmp_path / "cache" / "index").iterdir())) == 1


def test_a_folder_of_parts_that_was_made_too_late_goes_with_the_next_start(tmp_path):
    paths = write(tmp_path / "shards", range(SHARDS))
    open_index(paths, tmp_path / "cache")
    [place] = (tmp_path / "cache" / "index").iterdir()
    place.with_suffix(".parts").mkdir()
    open_index(paths, tmp_path / "cache")
    assert [*(tmp_path / "cache" / "index").iterdir()] == [place]


def test_a_changed_shard_and_new_ones_are_walked_and_no_other(tmp_path, walked):
    paths = write(tmp_path / "shards", range(SHARDS))
    open_index(paths, tmp_path / "cache")
    walked()
    write_tar(Path(paths[7]), {"other.jpg": PICTURE})
    index = open_index(paths, tmp_path / "cache")
    assert walked() == ["00007.tar"]
    assert keys(index) == [*expected(range(7)), "other", *expected(range(8, SHARDS))]
    write(tmp_path / "shards", range(SHARDS, SHARDS + 40))
    more = [f"{tmp_path}/shards/{shard:05}.tar" for shard in reversed(range(5, SHARDS + 40))]
    index = open_index(more, tmp_path / "cache")
    assert sorted(walked()) == [f"{shard:05}.tar" for shard in range(SHARDS, SHARDS + 40)]
    assert keys(index)[:3] == expected(range(SHARDS + 39, SHARDS + 40))
    assert len(index) == (SHARDS + 34) * EACH + 1


def test_an_older_shard_in_its_place_is_noticed_too(tmp_path, walked):
    paths = write(tmp_path / "shards", range(2))
    open_index(paths, tmp_path / "cache")
    walked()
    os.utime(paths[1], ns=(0, 0))
    open_index(paths, tmp_path / "cache")
    assert walked() == ["00001.tar"]


def test_what_a_killed_process_has_done_is_not_done_again(tmp_path, walked, monkeypatch):
    paths = write(tmp_path / "shards", range(200))
    walk = shard_index.index_tar

    def slow(path: Path) -> TarIndex:
        time.sleep(0.01)
        return walk(path)

    def start() -> None:
        shard_index.index_tar = slow
        open_index(paths, tmp_path / "cache")

    process = multiprocessing.get_context("fork").Process(target=start)
    process.start()
    place = tmp_path / "cache" / "index"
    while not len(list(place.glob("*.parts/*.index"))) > 2:
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    done = len(list(place.glob("*.parts/*.index"))) * 32
    walked()
    index = open_index(paths, tmp_path / "cache")
    assert len(walked()) <= 200 - done + 32
    assert keys(index) == expected(range(200))
    assert [each.suffix for each in place.iterdir()] == [".index"]


@pytest.mark.parametrize("place", [3, 20, 40, 70, 300, -1, -300, "cut", "empty"])
def test_an_index_that_the_disk_has_changed_is_made_again(tmp_path, place):
    paths = write(tmp_path / "shards", range(5))
    right = keys(open_index(paths, tmp_path / "cache"))
    [stored] = (tmp_path / "cache" / "index").iterdir()
    data = bytearray(stored.read_bytes())
    match place:
        case "cut":
            data = data[:-100]
        case "empty":
            data = bytearray()
        case int():
            data[place] ^= 0x10
    stored.write_bytes(data)
    assert keys(open_index(paths, tmp_path / "cache")) == right


def test_a_record_that_is_lost_beside_a_shard_that_has_changed_is_a_bad_sample(tmp_path):
    paths = write(tmp_path / "shards", range(2))
    open_index(paths, tmp_path / "cache")
    [stored] = (tmp_path / "cache" / "index").iterdir()
    data = bytearray(stored.read_bytes())
    data[100] ^= 1
    stored.write_bytes(data)
    index = open_index(paths, tmp_path / "cache")
    write_tar(Path(paths[0]), {"other.jpg": PICTURE})
    with pytest.raises(DataError, match="00000.tar has changed since it was indexed"):
        index.shard(0)
    assert index.shard(1).key(0) == "00001-0"


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    paths = write(tmp_path / "shards", range(40))
    (tmp_path / "file").write_text("")
    with pytest.warns(DataWarning, match="40 shards can't be kept .*; name another folder in --da"):
        index = open_index(paths, tmp_path / "file")
    assert keys(index) == expected(range(40))

    def full(target: Path, write: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shard_maker, "write_file", full)
    with pytest.warns(DataWarning, match="No space left on device"):
        index = open_index(paths, tmp_path / "cache", workers=2)
    assert keys(pickle.loads(pickle.dumps(index))) == expected(range(40))
    monkeypatch.setattr(shard_maker, "_FEW", 30)
    with pytest.raises(DataError, match="No space left on device; name another folder in --data"):
        open_index(paths, tmp_path / "cache")


def test_bad_shards_are_kept_in_the_index_and_unreadable_ones_tried_again(tmp_path, walked):
    paths = write(tmp_path / "shards", range(6))
    Path(paths[1]).write_bytes(b"\x1f\x8b" + bytes(600))
    cut = Path(paths[2])
    cut.write_bytes(cut.read_bytes()[: cut.read_bytes().index(b"00002-2.jpg") + 100])
    Path(paths[4]).unlink()
    settings = config(tmp_path, tmp_path / "shards" / "*.tar", max_bad_share=0.2)
    os.symlink("nowhere", paths[4])
    for _ in range(2):
        with pytest.warns(DataWarning, match="2 of 6 shards can't be read and are left out"):
            source = open_source(settings)
        reasons = {Path(bad.file).name: bad.reason for bad in source.bad_samples}
        assert set(reasons) == {"00001.tar", "00002.tar", "00004.tar"}
        assert "gzip" in reasons["00001.tar"]
        assert "cut short" in reasons["00002.tar"]
        assert "doesn't exist" in reasons["00004.tar"]
        assert [path.name for path in source.paths] == [f"0000{n}.tar" for n in (0, 2, 3, 5)]
    walked()
    os.unlink(paths[4])
    write(tmp_path / "shards", range(4, 5))
    with pytest.warns(DataWarning, match="1 of 6 shards"):
        source = open_source(settings)
    assert set(walked()) == {"00004.tar"}
    assert source.where(len(source) - EACH - 1)[1] == "00004-2"


def test_peers_ask_for_the_state_of_their_share_and_tell_each_other(tmp_path):
    paths = write(tmp_path / "shards", range(5))
    own = dict[int, torch.Tensor]()

    class Half(Peers):
        def sum(self, local: torch.Tensor) -> torch.Tensor:
            own[self.rank] = local
            return sum(own.values(), torch.zeros_like(local))

    for rank in range(2):
        versions = indexing._versions(paths, Half(rank=rank, size=2))
    assert (own[0][1::2] == 0).all()
    assert (own[1][::2] == 0).all()
    assert versions[:, 0].tolist() == [os.path.getsize(path) for path in paths]
    assert versions[:, 1].tolist() == [os.stat(path).st_mtime_ns for path in paths]


def test_a_packed_index_is_the_index(tmp_path):
    """Also with texts that aren't UTF-8, a sample of long endings, and none at all."""
    files = {"caf\udce9.jpg": b"1", "a.txt": b"2", "a." + "e" * 200: b"3", "b.jpg": b""}
    for index in (index_tar(write_tar(tmp_path / "a.tar", files)), TarIndex.empty("gone")):
        again = unpack(memoryview(pack(index)))
        assert (again.endings, again.error, len(again)) == (index.endings, index.error, len(index))
        for row in range(len(index)):
            assert again.key(row) == index.key(row)
            assert again.members(row) == index.members(row)


def test_a_sample_opens_one_file_at_most_and_few_stay_open(tmp_path, opened):
    paths = write(tmp_path / "shards", range(300))
    source = open_source(config(tmp_path, tmp_path / "shards" / "{00000..00299}.tar"))
    opened.clear()
    for sample in range(len(source)):
        assert source[sample].captions
    assert len(opened) <= 300 < len(source)
    open_now = {file.path for file in psutil.Process().open_files()} & set(paths)
    assert len(open_now) <= 128


MANY = """
import sys, time, psutil
from diptych.config import DataConfig
from diptych.data import open_source
process = psutil.Process()
before, start = process.memory_full_info().uss, time.perf_counter()
source = open_source(DataConfig(path=sys.argv[1], cache=sys.argv[2], workers=2))
for index in range(0, len(source), max(1, len(source) // 300)):
    source[index]
print(time.perf_counter() - start, process.memory_full_info().uss - before, process.num_fds())
"""


@pytest.mark.slow
def test_ten_thousand_shards_take_no_more_memory_than_a_hundred(tmp_path):
    """The first start walks all, the second is quick; memory of its own hardly grows."""
    import subprocess

    write(tmp_path / "shards", range(10_000))

    def start(last: int) -> tuple[float, float, int]:
        pattern = f"{tmp_path}/shards/{{00000..{last:05}}}.tar"
        command = [sys.executable, "-c", MANY, pattern, str(tmp_path / "cache")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, private, files = done.stdout.split()
        return float(seconds), float(private), int(files)

    for last in (99, 9999):
        start(last)
    _, few, _ = start(99)
    seconds, many, files = start(9999)
    assert many - few < 8e6
    assert seconds < 5
    assert files < 200
