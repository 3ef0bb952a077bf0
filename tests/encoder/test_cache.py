"""Vectors on disk: nothing is computed twice, nothing corrupt is used, processes share the
work."""

import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych.config import DataConfig
from diptych.data import open_source, write_shards
from diptych.distributed import Peers
from diptych.encoder import (
    Cache,
    CacheEntry,
    Encoder,
    FeatureExtractor,
    Texts,
    extract_features,
    features,
)
from diptych.errors import DataError
from diptych.inputs import ClipTokenizer
from tests import tiny
from tests.distributed.harness import run_processes
from tests.forked import Script


def extractor(seed: int = 0, resize: str | None = None) -> FeatureExtractor:
    encoder = tiny.encoder(seed)
    preprocess = encoder.preprocess
    if resize:
        preprocess = replace(preprocess, config=replace(preprocess.config, resize=resize))
    return FeatureExtractor(encoder=encoder, preprocess=preprocess)


@pytest.fixture
def source(tmp_path):
    tiny.write_pictures(tmp_path / "data")
    return open_source(DataConfig(path=str(tmp_path / "data")), captions=False)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(features, "ROWS", 5)


@pytest.fixture
def decodes(monkeypatch):
    counted = []

    def decode(picture):
        counted.append(picture)
        return original(picture)

    original = features.decode
    monkeypatch.setattr(features, "decode", decode)
    return counted


def test_vectors_are_those_of_the_encoder_and_kept(source, tmp_path, decodes, small_chunks):
    [first] = extract_features(
        [extractor()], source, fields=["label"], cache=Cache(tmp_path / "cache"), batch_size=4
    )
    by_hand = tiny.encoder().embed_images([source[i].image for i in range(12)], batch_size=4)
    torch.testing.assert_close(first.vectors, by_hand, rtol=0, atol=1e-6)
    assert [sample.label for sample in first.samples] == [i // 3 for i in range(12)]
    assert len(decodes) == 12
    [again] = extract_features(
        [extractor()], source, fields=["label"], cache=Cache(tmp_path / "cache")
    )
    assert torch.equal(again.features, first.features)
    assert again.samples == first.samples
    assert len(decodes) == 12, "nothing is decoded again"


def test_models_and_resizes_share_one_decode(source, tmp_path, decodes):
    extractors = [extractor(0), extractor(1), extractor(0, "squash"), extractor(0)]
    found = extract_features(extractors, source, fields=[], cache=Cache(tmp_path / "cache"))
    assert len(decodes) == 12
    assert torch.equal(found[0].features, found[3].features)
    assert not torch.equal(found[0].features, found[1].features)
    assert not torch.equal(found[0].features, found[2].features)
    alone = [extract_features([each], source, fields=[])[0] for each in extractors]
    assert all(torch.equal(a.features, b.features) for a, b in zip(found, alone))


def test_another_label_reading_does_not_decode(source, tmp_path, decodes):
    cache = Cache(tmp_path / "cache")
    extract_features([extractor()], source, fields=["label"], cache=cache)
    [found] = extract_features([extractor()], source, fields=["captions"], cache=cache)
    assert found.samples[0].captions
    assert found.samples[0].label is None
    assert len(decodes) == 12


def test_corruption_is_noticed_and_made_again(source, tmp_path, decodes, small_chunks):
    [before] = extract_features(
        [extractor()], source, fields=["label"], cache=Cache(tmp_path / "cache")
    )
    hurt, cut, *_ = sorted((tmp_path / "cache" / "images").rglob("*.safetensors"))
    data = bytearray(hurt.read_bytes())
    data[-3] ^= 1
    hurt.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:100])
    cache = Cache(tmp_path / "cache")
    [after] = extract_features([extractor()], source, fields=["label"], cache=cache)
    assert cache.corrupt == [hurt, cut]
    assert torch.equal(after.features, before.features)
    assert len(decodes) == 12 + 10


def test_a_changed_file_is_another_set(source, tmp_path, decodes):
    cache = Cache(tmp_path / "cache")
    extract_features([extractor()], source, fields=[], cache=cache)
    tiny.picture("red", 9).save(source[0].image)
    extract_features([extractor()], source, fields=[], cache=cache)
    assert len(decodes) == 24


def test_broken_pictures_are_listed_whoever_asks(source, tmp_path, small_chunks):
    for index in (4, 5, 6, 7, 8, 9):  # a whole chunk, and the edge of another
        Path(source[index].image).write_bytes(b"nothing")
    cache = Cache(tmp_path / "cache")
    for _ in range(2):
        [found] = extract_features(
            [extractor()], source, fields=["label"], cache=cache, batch_size=2
        )
        assert found.rows.tolist() == [0, 1, 2, 3, 10, 11]
        assert [bad.key for bad in found.bad] == [source.where(i)[1] for i in (4, 5, 6, 7, 8, 9)]
        assert "not a picture" in found.bad[0].reason


def test_a_disk_that_did_not_answer_is_asked_again(source, tmp_path, monkeypatch):
    def fail(self, index):
        if index == 3:
            raise OSError("the disk is away")
        return original(self, index)

    original = type(source).__getitem__
    with monkeypatch.context() as patch:
        patch.setattr(type(source), "__getitem__", fail)
        [found] = extract_features(
            [extractor()], source, fields=[], cache=Cache(tmp_path / "cache")
        )
        assert [bad.reason for bad in found.bad] == ["the disk is away"]
    [found] = extract_features([extractor()], source, fields=[], cache=Cache(tmp_path / "cache"))
    assert len(found.rows) == 12


def test_texts_are_encoded_once(tmp_path, monkeypatch):
    asked = []
    original = Encoder.embed_ids
    monkeypatch.setattr(
        Encoder,
        "embed_ids",
        lambda self, rows, **o: asked.append(len(rows)) or original(self, rows),
    )
    texts = Texts(tiny.encoder(), Cache(tmp_path))
    vectors = texts(["a cat", "a dog", "a cat"])
    assert asked == [2]
    assert torch.equal(vectors[0], vectors[2])
    again = Texts(tiny.encoder(), Cache(tmp_path))
    assert torch.equal(again(["a dog", "a bird"])[0], vectors[1])
    assert asked == [2, 1]
    Texts(tiny.encoder(1), Cache(tmp_path))(["a cat"])
    assert asked == [2, 1, 1], "another model has other vectors"
    short = Encoder(tiny.encoder().model, ClipTokenizer(context_length=4))
    assert short.identity.fingerprint == tiny.encoder().identity.fingerprint
    Texts(short, Cache(tmp_path))(["a cat"])
    assert asked == [2, 1, 1, 1], "another tokenizer reads texts otherwise"


def extract_as_one_of(peers: Peers, path: str, cache: str | None):
    features.ROWS = 5
    source = open_source(DataConfig(path=path), captions=False)
    shared = Cache(cache)
    [found] = extract_features([extractor()], source, fields=["label"], cache=shared, peers=peers)
    return (
        found.features,
        [s.label for s in found.samples],
        Texts(tiny.encoder(), shared, peers)(["a cat", "a dog"]),
    )


@pytest.mark.parametrize("on_disk", [True, False])
def test_two_processes_equal_one(source, tmp_path, on_disk, small_chunks):
    alone = extract_as_one_of(Peers(), str(tmp_path / "data"), None)
    cache = str(tmp_path / "cache") if on_disk else None
    for vectors, labels, texts in run_processes(
        2, extract_as_one_of, str(tmp_path / "data"), cache
    ):
        assert torch.equal(vectors, alone[0])
        assert labels == alone[1]
        assert torch.equal(texts, alone[2])


SLOW = """
import sys, time
from diptych.encoder import features
from tests.encoder.test_cache import extract_as_one_of
from diptych.distributed import Peers
original = features.decode
features.decode = lambda picture: time.sleep(0.05) or original(picture)
extract_as_one_of(Peers(), sys.argv[1], sys.argv[2])
"""


def test_a_kill_loses_no_finished_chunk(tmp_path, decodes, small_chunks):
    source = open_source(DataConfig(path="synthetic:40"))
    [shard] = write_shards(tmp_path / "shards", [source[i] for i in range(40)])
    work = Script(SLOW, shard, tmp_path / "cache")
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("cache/images/*/*.safetensors"))) < 2:
        assert time.monotonic() < deadline
        assert work.is_running()
        time.sleep(0.01)
    work.signal(signal.SIGKILL)
    work.end()
    finished = list(tmp_path.glob("cache/images/*/0*.safetensors"))
    assert 2 <= len(finished) < 8
    resumed = extract_as_one_of(Peers(), str(shard), str(tmp_path / "cache"))
    assert len(decodes) == 40 - 5 * len(finished)
    alone = extract_as_one_of(Peers(), str(shard), None)
    assert torch.equal(resumed[0], alone[0])
    assert resumed[1] == alone[1]


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="choose another --cache"):
        Cache(tmp_path / "file").write("images/a/0", CacheEntry())
