"""Shards on a server are read by ranges, as the same shards on the disk are."""

import gc
import sys
from collections import Counter
from dataclasses import replace

import fsspec
import numpy as np
import pytest

from diptych.batch import Sample
from diptych.config import PreprocessConfig
from diptych.data import Loader, open_source, write_shards
from diptych.data.retry import Retry, Transient
from diptych.errors import ConfigError, DataError, DataWarning
from diptych.inputs import Preprocess
from tests.data.builders import Spelling, config, samples
from tests.data.web import serving


@pytest.fixture
def web(tmp_path, monkeypatch):
    monkeypatch.setattr("diptych.data.retry._FIRST", 0.001)
    write_shards(tmp_path / "shards", samples(40), per_shard=10)
    gc.freeze()  # what was there before needn't be looked through
    with serving(tmp_path / "shards") as found:
        yield found
    fsspec.filesystem("http").clear_instance_cache()  # and close what is open
    gc.collect()
    gc.unfreeze()


def everything(source) -> list[Sample]:
    return [source[index] for index in range(len(source))]


def test_shards_on_a_server_are_those_on_the_disk(tmp_path, web):
    here = open_source(config(tmp_path, tmp_path / "shards"))
    there = open_source(config(tmp_path, f"{web.url}/{{000000..000003}}.tar"))
    assert everything(there) == everything(here)
    assert there.where(11) == (f"{web.url}/000001.tar", "00000011")
    mixed = open_source(config(tmp_path, f"{tmp_path}/shards/000000.tar::{web.url}/000003.tar"))
    assert everything(mixed) == everything(here)[:10] + everything(here)[30:]


def test_each_shard_is_walked_once_and_each_sample_is_one_range(tmp_path, web):
    """The room for pages is too small for the set: so no pages, and nothing is kept."""
    data = config(tmp_path, f"{web.url}/{{000000..000003}}.tar", remote_limit=1e-6)
    open_source(data)
    assert Counter(path for path, _, _ in web.ranges)["000000.tar"] <= 4  # the walk, and probes
    web.asked.clear()
    source = open_source(data)
    walked = len(web.ranges)
    assert walked <= 8  # probes alone: the index is there
    web.asked.clear()
    wanted = [3, 17, 38, 3]
    found = [source[index] for index in wanted]
    assert found == [open_source(config(tmp_path, tmp_path / "shards"))[i] for i in wanted]
    assert len(web.ranges) == len(wanted)
    assert all(last - first < 3000 for _, first, last in web.ranges)


def test_pages_are_asked_for_once_whoever_reads(tmp_path, web, monkeypatch):
    monkeypatch.setattr("diptych.data.pages.PAGE", 4096)
    data = config(tmp_path, f"{web.url}/{{000000..000003}}.tar")
    open_source(config(tmp_path, data.path, remote_limit=1e-6))  # walks them, and keeps nothing
    web.asked.clear()
    everything(open_source(data))
    for name in sorted(web.folder.iterdir()):
        asked = np.zeros(name.stat().st_size, int)
        for path, first, last in web.ranges:
            if path == name.name:
                asked[first : last + 1] += 1
        assert asked.max() == 1
    web.asked.clear()
    everything(open_source(data))
    assert web.ranges == []


def batches(data):
    source = open_source(data)
    loader = Loader(
        source,
        data,
        preprocess=Preprocess(PreprocessConfig(), 16),
        tokenizer=Spelling(),
        batch_size=8,
        steps=5,
    )
    return [batch.index.tolist() for batch in loader], loader.bad


def test_a_server_that_fails_now_and_then_is_survived(tmp_path, web):
    data = config(tmp_path, f"{web.url}/{{000000..000003}}.tar", remote_limit=1e-6, workers=2)
    web.fail_every = 3
    found, bad = batches(data)
    assert bad.listed == []
    assert found == batches(replace(data, path=str(tmp_path / "shards")))[0]


def test_without_more_tries_what_fails_is_skipped_and_listed(tmp_path, web):
    data = config(
        tmp_path,
        f"{web.url}/{{000000..000003}}.tar",
        remote_limit=1e-6,
        workers=0,
        retries=0,
        max_bad_share=1.0,
    )
    open_source(data)
    web.fail_every = 5
    found, bad = batches(data)
    assert [len(batch) for batch in found] == [8] * 5
    reasons = " ".join(sample.reason for sample in bad.listed)
    assert "gave" in reasons
    assert "503" in reasons


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (404, "000000.tar doesn't exist$"),
        (403, r"000000.tar may not be read \(403.*where the service's own tools keep them"),
        (401, "000000.tar may not be read"),
        (410, "000000.tar can't be read: 410"),
    ],
)
def test_what_no_try_helps_is_one_sentence_at_once(tmp_path, web, status, says):
    web.statuses["000000.tar"] = status
    with pytest.raises(DataError, match=says):
        open_source(config(tmp_path, f"{web.url}/000000.tar"))
    assert len(web.asked) <= 2  # by HEAD, and by GET


def test_one_missing_shard_of_several_is_left_out_and_listed(tmp_path, web):
    web.statuses["000002.tar"] = 404
    data = config(tmp_path, f"{web.url}/{{000000..000003}}.tar")
    with pytest.warns(DataWarning, match="1 of 4 shards can't be read and are left out"):
        source = open_source(data)
    assert len(source) == 30
    assert source.bad_samples[0].file == f"{web.url}/000002.tar"
    web.statuses["000001.tar"] = 404
    with pytest.raises(DataError, match=r"doesn't exist \(2 of 4 shards can't be read\)"):
        open_source(data)


@pytest.mark.parametrize("name", ["000000.tar", "{000000..000003}.tar"])
def test_a_server_without_ranges_is_refused_before_each_shard_was_sent_whole(tmp_path, web, name):
    web.knows_ranges = False
    with pytest.raises(DataError, match="gives the whole file where a part is asked.*pipe:curl"):
        open_source(config(tmp_path, f"{web.url}/{name}", remote_limit=1e-6))
    assert [path for path, _, _ in web.ranges] == ["000000.tar"]


def test_a_changed_shard_is_indexed_anew(tmp_path, web):
    data = config(tmp_path, f"{web.url}/000000.tar")
    assert open_source(data)[0].captions == ("picture 0",)
    write_shards(web.folder, samples(7, start=30))
    source = open_source(data)
    assert len(source) == 7
    assert source[0].captions == ("picture 30",)


def test_secrets_are_refused_or_not_shown(tmp_path, web):
    host = web.url.removeprefix("http://")
    with pytest.raises(ConfigError, match="has a password or a token in it") as caught:
        open_source(config(tmp_path, f"http://me:hidden@{host}/000000.tar"))
    assert "hidden" not in str(caught.value)
    with pytest.raises(ConfigError, match="s3://bucket/0.tar has a password") as caught:
        open_source(config(tmp_path, "s3://id:hidden@bucket/0.tar"))
    assert "hidden" not in str(caught.value)
    signed = open_source(config(tmp_path, f"{web.url}/000000.tar?signature=hidden"))
    assert "hidden" not in signed.describe() + str(signed.where(0))
    assert signed[0].captions == ("picture 0",)
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert any(path.suffix == ".index" for path in kept)
    assert not any(b"hidden" in path.read_bytes() for path in kept)
    with pytest.raises(DataError, match="doesn't exist") as caught:
        open_source(config(tmp_path, f"{web.url}/7.tar?signature=hidden"))
    assert "hidden" not in str(caught.value)
    web.statuses["000001.tar"] = 500
    with pytest.raises(DataError, match="500") as caught:
        open_source(config(tmp_path, f"{web.url}/000001.tar?signature=hidden", retries=0))
    assert "hidden" not in str(caught.value)


def test_memory_and_file_addresses_stars_and_folders(tmp_path, web):
    memory = fsspec.filesystem("memory")
    for path in web.folder.iterdir():
        memory.pipe(f"/set/{path.name}", path.read_bytes())
    memory.pipe("/set/stats.json", b"{}")
    here = everything(open_source(config(tmp_path, tmp_path / "shards")))
    for address in ("memory://set", "memory://set/*.tar", "memory://set/{000000..000003}.tar"):
        assert everything(open_source(config(tmp_path, address))) == here
    assert everything(open_source(config(tmp_path, f"file://{tmp_path}/shards"))) == here
    with pytest.raises(DataError, match=r"memory://other/\*.tar stands for no shards"):
        open_source(config(tmp_path, "memory://other"))
    memory.rm("/set", recursive=True)


def test_services_that_are_unknown_or_not_installed_are_said(tmp_path):
    with pytest.raises(DataError, match="Protocol not known: nowhere"):
        open_source(config(tmp_path, "nowhere://a/b.tar"))
    with pytest.raises(ConfigError, match=r"s3:// needs another package.*diptych\[remote\]"):
        open_source(config(tmp_path, "s3://a/b.tar"))


def test_local_paths_import_nothing_of_it(tmp_path, web, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fsspec", None)
        assert len(open_source(config(tmp_path, web.folder))) == 40
        with pytest.raises(ConfigError, match="another package"):
            open_source(config(tmp_path, f"{web.url}/000000.tar"))


def test_pauses_grow_and_are_the_same_for_the_same_reader(monkeypatch):
    slept = list[float]()
    monkeypatch.setattr("time.sleep", slept.append)

    def fail():
        raise Transient("busy")

    for name in ("a.tar", "a.tar", "b.tar"):
        with pytest.raises(Transient):
            Retry(times=10)(fail, name)
    first, again, other = slept[:10], slept[10:20], slept[20:]
    assert first == again != other
    for number, pause in enumerate(first):
        whole = min(30.0, 0.25 * 2**number)
        assert whole / 2 <= pause <= whole * 1.5
