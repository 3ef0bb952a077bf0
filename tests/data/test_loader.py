"""A batch is a function of the seed and the step: whatever the workers, the processes and the place
of a resume."""

import itertools
import os
import signal
import socket
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch

from diptych.batch import Batch, HiddenView, Sample, Views
from diptych.config import AugmentConfig, PreprocessConfig
from diptych.data import Loader, Source, open_source, write_shards
from diptych.data import loader as loader_module
from diptych.distributed import Peers
from diptych.errors import ConfigError, DataError, DataWarning, TruncationWarning
from diptych.inputs import ClipTokenizer, Preprocess
from tests.data.builders import Spelling, config, picture, read, samples, write_tar
from tests.forked import Script

PREPROCESS = Preprocess(PreprocessConfig(), 8)
make_loader = partial(Loader, preprocess=PREPROCESS, tokenizer=Spelling(), seed=7)


@pytest.fixture
def data(tmp_path):
    write_shards(tmp_path / "shards", samples(40), per_shard=15)
    augment = AugmentConfig(scale=(0.5, 1.0), flip=0.5, noise=10.0)
    return config(tmp_path, tmp_path / "shards", augment=augment, workers=0)


def equal(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.index, b.index)
        and all(map(torch.equal, a.images, b.images))
        and all(map(torch.equal, a.texts, b.texts))
        for a, b in zip(one, other)
    )


def rows(batches: list[Batch]) -> list[tuple[int, str, float]]:
    """Each row's index, caption and picture, whatever the length to which its caption is padded."""
    return [
        (index, text, image.sum().item())
        for batch in batches
        for index, text, image in zip(batch.index.tolist(), read(batch.texts[0]), batch.images[0])
    ]


def test_pictures_and_captions_stay_together(data):
    data = replace(data, augment=AugmentConfig())
    [batch] = make_loader(open_source(data), data, batch_size=40, steps=1)
    assert sorted(batch.index.tolist()) == list(range(40))
    assert read(batch.texts[0]) == [f"picture {n}" for n in batch.index.tolist()]
    levels = torch.stack([PREPROCESS(picture(n)) for n in batch.index.tolist()])
    assert (batch.ready().images[0] - levels).abs().max() < 0.05


def test_texts_are_as_long_as_the_longest_of_the_batch(data):
    [batch] = make_loader(open_source(data), data, batch_size=4, steps=1)
    assert batch.texts[0].shape[1] == max(len(f"picture {n}") for n in batch.index.tolist())


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(data, workers):
    source = open_source(data)
    expected = list(make_loader(source, data, batch_size=8, steps=8))
    data = replace(data, workers=workers)
    assert equal(list(make_loader(source, data, batch_size=8, steps=8)), expected)


def test_processes_share_the_rows_of_one_batch(data):
    source = open_source(data)
    whole = list(make_loader(source, data, batch_size=8, steps=6))
    halves = [
        list(make_loader(source, data, batch_size=8, steps=6, peers=Peers(rank=rank, size=2)))
        for rank in range(2)
    ]
    joined = list(itertools.chain.from_iterable(zip(*halves)))
    assert [len(batch) for batch in joined] == [4] * 12
    assert rows(joined) == rows(whole)


def test_resume_in_the_middle_of_an_epoch_is_the_continuation(data):
    """Stopped after step 7 of 12 (40 samples: in the second epoch), continued by two processes with
    two workers."""
    source = open_source(data)
    whole = list(make_loader(source, data, batch_size=8, steps=12))
    again = make_loader(source, data, batch_size=8, steps=12, start_step=7)
    assert len(again) == 5
    assert equal(list(again), whole[7:])
    data = replace(data, workers=2)
    halves = [
        list(
            make_loader(
                open_source(data), data, batch_size=8, steps=12, start_step=7, peers=Peers(rank, 2)
            )
        )
        for rank in range(2)
    ]
    assert rows(list(itertools.chain.from_iterable(zip(*halves)))) == rows(whole[7:])


@pytest.mark.filterwarnings("ignore:all samples of")
def test_epochs_and_seeds_differ_in_order_crop_and_caption(tmp_path):
    many = [replace(sample, captions=("one", "two", "three")) for sample in samples(32)]
    write_shards(tmp_path / "shards", many)
    data = config(tmp_path, tmp_path / "shards", workers=0, augment=AugmentConfig(noise=20.0))
    source = open_source(data)
    first, second = make_loader(source, data, batch_size=32, steps=2)
    [other] = make_loader(source, data, batch_size=32, steps=1, seed=8)
    for batch in (second, other):
        assert not torch.equal(batch.index, first.index)
        here, there = first.index.argsort(), batch.index.argsort()
        assert not torch.equal(batch.images[0][there], first.images[0][here])
        assert [read(batch.texts[0])[n] for n in there] != [read(first.texts[0])[n] for n in here]
    assert set(read(first.texts[0])) == {"one", "two", "three"}


def test_each_view_draws_for_itself(data):
    views = Views(image=("plain", "plain"), text=("plain", "plain"))
    [batch] = make_loader(open_source(data), data, batch_size=8, steps=1, views=views)
    assert len(batch.images) == len(batch.texts) == 2
    assert not torch.equal(batch.images[0], batch.images[1])
    assert torch.equal(batch.texts[0], batch.texts[1])  # one caption each


def test_mixture_weights_hold(tmp_path):
    write_shards(tmp_path / "a", samples(30))
    write_shards(tmp_path / "b", samples(10, start=100))
    data = config(tmp_path, f"{tmp_path / 'a'}::{tmp_path / 'b'}", weights=(1.0, 3.0), workers=0)
    batches = list(make_loader(open_source(data), data, batch_size=32, steps=5))
    for index, text, _ in rows(batches):
        assert text == f"picture {index if index < 30 else index + 70}"
    assert [(batch.index >= 30).sum().item() for batch in batches] == [24] * 5


@pytest.mark.parametrize("changes", [{}, {"resample": True}, {"consecutive": 4}])
def test_a_mixture_is_the_same_for_all_processes_and_where_it_goes_on(data, tmp_path, changes):
    """Batches of 12 of three sources, 6 + 3.6 + 2.4, in 1, 2 and 4 processes and from step 3."""
    for number, count in enumerate((10, 15)):
        write_shards(tmp_path / f"more-{number}", samples(count, start=100 * number))
    path = "::".join([data.path, f"{tmp_path / 'more-0'}", f"{tmp_path / 'more-1'}"])
    data = replace(data, path=path, weights=(5.0, 3.0, 2.0), **changes)
    source = open_source(data)
    whole = make_loader(source, data, batch_size=12, steps=6)
    alone = list(whole)
    for size in (2, 4):
        parts = list[list[Batch]]()
        for rank in range(size):
            peers = Peers(rank=rank, size=size)
            parts.append(list(make_loader(source, data, batch_size=12, steps=6, peers=peers)))
        for step, batch in enumerate(alone):
            assert rows([batch]) == rows([part[step] for part in parts])
            firsts = [(part[step].index < 40).sum().item() for part in parts]
            assert set(firsts) <= {12 // size // 2, -(-12 // size // 2)}
    taken = tuple(whole.order.taken(3).tolist())
    again = make_loader(source, data, batch_size=12, steps=6, start_step=3, taken=taken)
    assert equal(list(again), alone[3:])


@pytest.fixture
def bad(tmp_path):
    """40 samples: number 3 is no JPEG, 5 is cut, 7 has no caption, 9 has no picture; a second shard
    is cut after 2."""
    files = {}
    for n in range(40):
        files |= {f"{n:02}.jpg": picture(n), f"{n:02}.txt": f"picture {n}".encode()}
    files["03.jpg"] = b"nonsense"
    files["05.jpg"] = files["05.jpg"][:200]
    del files["07.txt"], files["09.jpg"]
    write_tar(tmp_path / "a.tar", files)
    [cut] = write_shards(tmp_path / "b", samples(4, start=40))
    cut.write_bytes(cut.read_bytes()[: cut.read_bytes().index(b"00000002.jpg") + 600])
    return config(tmp_path, f"{tmp_path / 'a.tar'}::{cut}", workers=0, max_bad_share=0.2)


@pytest.mark.parametrize("workers", [0, 2])
def test_captions_beyond_the_context_are_counted_and_said_once(tmp_path, workers):
    """Half of the captions fill the context of 77 with the end token; half have one word more."""
    captions = [" ".join(["cat"] * (75 + n % 2)) for n in range(8)]
    pairs = [replace(each, captions=(text,)) for each, text in zip(samples(8), captions)]
    write_shards(tmp_path / "long", pairs)
    settings = config(tmp_path, str(tmp_path / "long"), workers=workers)
    loader = make_loader(
        open_source(settings), settings, batch_size=4, steps=4, tokenizer=ClipTokenizer()
    )
    with pytest.warns(TruncationWarning) as said:
        batches = list(loader)
    assert all(batch.texts[0].shape == (4, 77) for batch in batches)
    assert loader.truncated.count == 8
    [message] = [str(each.message) for each in said]
    assert "longer than the context of 77 tokens" in message
    assert "the first is 'cat cat" in message


def test_bad_samples_are_replaced_counted_and_listed(bad):
    source = open_source(bad)
    assert len(source) == 42
    loader = make_loader(source, bad, batch_size=42, steps=2)
    first, second = loader
    for batch in (first, second):
        assert len(batch) == 42
        assert read(batch.texts[0]) == [f"picture {n}" for n in batch.index.tolist()]
        assert set(range(42)) - {3, 5, 7, 9} == set(batch.index.tolist())
    assert loader.bad.count >= 8
    assert loader.bad.read == 84 + loader.bad.count
    reasons = {(os.path.basename(bad.file), bad.key): bad.reason for bad in loader.bad.listed}
    assert len(reasons) == len(loader.bad.listed) == 5
    assert "cut short" in reasons["000000.tar", ""]
    assert "not a picture" in reasons["a.tar", "03"]
    assert "decoded" in reasons["a.tar", "05"]
    assert "no caption" in reasons["a.tar", "07"]
    assert "no picture" in reasons["a.tar", "09"]


def test_what_is_no_regular_file_is_a_bad_sample(tmp_path):
    """A pipe, a socket, a device and a broken link among pictures: nobody waits for one."""
    folder = tmp_path / "pictures" / "cat"
    folder.mkdir(parents=True)
    for n in range(8):
        (folder / f"{n}.jpg").write_bytes(picture(n))
    os.mkfifo(folder / "pipe.jpg")
    os.symlink("/dev/zero", folder / "device.png")
    os.symlink("nowhere", folder / "broken.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket.jpg"))
    settings = config(tmp_path, folder.parent, workers=0, max_bad_share=0.5)
    with pytest.warns(DataWarning):
        source = open_source(settings)
    loader = make_loader(source, settings, batch_size=12, steps=1)
    [batch] = loader
    assert len(batch) == 12
    reasons = {bad.key: bad.reason for bad in loader.bad.listed}
    assert set(reasons) == {f"cat/{name}" for name in SPECIAL}
    for name in ("pipe.jpg", "device.png", "socket.jpg"):
        assert "no regular file" in reasons[f"cat/{name}"]


SPECIAL = ("pipe.jpg", "device.png", "broken.jpg", "socket.jpg")


def test_substitutes_are_the_same_everywhere(bad):
    whole = make_loader(open_source(bad), bad, batch_size=14, steps=4)
    expected = list(whole)
    workers = replace(bad, workers=2)
    halves = [
        make_loader(open_source(workers), workers, batch_size=14, steps=4, peers=Peers(rank, 2))
        for rank in range(2)
    ]
    assert rows(list(itertools.chain.from_iterable(zip(*halves)))) == rows(expected)
    assert sum(half.bad.count for half in halves) == whole.bad.count
    assert set(halves[0].bad.listed) | set(halves[1].bad.listed) == set(whole.bad.listed)


def test_more_than_the_allowed_share_stops_the_run(bad):
    bad = replace(bad, max_bad_share=0.03)
    loader = make_loader(open_source(bad), bad, batch_size=7, steps=100)
    with pytest.raises(
        DataError,
        match=r"4 of \d+ samples read are bad .*, more than --data.max-bad-share 0.03; the first:",
    ):
        list(loader)
    assert loader.bad.read <= 42 + 4  # the fourth is met in the first epoch, and no longer let pass


def test_a_few_bad_samples_stop_no_small_source(bad):
    """0.04 of 100 are 4, which are bad here; they are met again in each of many epochs."""
    bad = replace(bad, max_bad_share=0.04)
    loader = make_loader(open_source(bad), bad, batch_size=42, steps=10)
    assert len(list(loader)) == 10
    assert loader.bad.count > 0.04 * loader.bad.read


@pytest.mark.parametrize("workers", [0, 2])
def test_a_source_that_breaks_as_a_whole_stops_at_once(data, workers):
    source = open_source(data)
    for path in source.paths:
        path.write_bytes(b"")
    data = replace(data, workers=workers)
    with pytest.raises(DataError, match="100 of 100 samples read are bad"):
        next(iter(make_loader(source, data, batch_size=8, steps=8)))


def test_impossible_batches_are_refused(data):
    source = open_source(data)
    with pytest.raises(ConfigError, match="--batch-size 9 can't be split evenly among 2 processes"):
        make_loader(source, data, batch_size=9, steps=1, peers=Peers(rank=0, size=2))
    with pytest.raises(ConfigError, match="--batch-size 64 is more than the 40 samples"):
        make_loader(source, data, batch_size=64, steps=1)


def test_the_global_generator_is_left_alone(data):
    data = replace(data, workers=1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(make_loader(open_source(data), data, batch_size=8, steps=2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
def test_cuda_gets_the_same_batches_one_ahead(data):
    data = replace(data, workers=2)
    source = open_source(data)
    expected = list(make_loader(source, data, batch_size=8, steps=12))
    loader = make_loader(
        source, data, batch_size=8, steps=12, peers=Peers(device=torch.device("cuda"))
    )
    for batch, other in zip(loader, expected, strict=True):
        assert batch.images[0].is_cuda
        assert torch.equal(batch.texts[0].cpu(), other.texts[0])
        assert torch.equal(batch.index.cpu(), other.index)
        assert torch.equal(batch.images[0].cpu(), other.images[0])


SCRIPT = """
import time
from diptych.config import DataConfig, PreprocessConfig, TokenizerConfig
from diptych.data import Loader, open_source
from diptych.inputs import Preprocess, build_tokenizer
config = DataConfig(path="synthetic:1000", workers=2)
loader = Loader(open_source(config), config, preprocess=Preprocess(PreprocessConfig(), 16),
                tokenizer=build_tokenizer(TokenizerConfig()), batch_size=8, steps=10**6)
for batch in loader:
    print(len(batch), flush=True)
    time.sleep(0.01)
"""


def wait_for_batches(script, count):
    deadline = time.monotonic() + 60
    while script.said().count("8\n") < count:
        assert script.is_running()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_workers_leave_signals_to_their_parent_and_end_with_it():
    """SIGTERM to the whole group must not kill what the parent still needs; `kill -9` of the parent
    leaves nobody."""
    script = Script(SCRIPT)
    wait_for_batches(script, 1)
    workers = psutil.Process(script.pid).children()
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
    wait_for_batches(script, script.said().count("8\n") + 10)  # more than was prefetched
    script.signal(signal.SIGKILL)
    script.end()
    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


def all_views(batch: Batch) -> list[torch.Tensor]:
    assert batch.mlm_labels is not None
    assert batch.lengths is not None
    lengths = [torch.tensor(each.host) for each in batch.lengths]
    assert batch.hidden is not None
    hidden = batch.hidden.places, torch.tensor(batch.hidden.counts)
    return [*batch.images, *batch.texts, batch.index, batch.mlm_labels, *lengths, *hidden]


@pytest.mark.parametrize(
    ("chunk", "prefetch", "workers", "strong_on"),
    [
        (64, 0.001, 2, "workers"),
        (5, 0.02, 3, "workers"),
        (3, 500.0, 2, "device"),
        (1, 500.0, 1, "device"),
    ],
)
def test_chunks_and_their_memory_change_nothing(
    data, monkeypatch, chunk, prefetch, workers, strong_on
):
    """Rows of a batch made 3, 1, 5 at a time, in memory for one chunk or for many."""
    hidden = HiddenView(side=4, count=6, exact=False)
    views = Views(image=("plain", "strong"), text=("masked", "plain"), hidden=hidden)
    data = replace(data, strong_on=strong_on)
    source = open_source(data)
    expected = list(make_loader(source, data, batch_size=8, steps=6, views=views))
    monkeypatch.setattr(loader_module, "_CHUNK", chunk)
    data = replace(data, workers=workers, prefetch=prefetch)
    found = list(make_loader(source, data, batch_size=8, steps=6, views=views))
    for batch, other in zip(found, expected, strict=True):
        assert all(map(torch.equal, all_views(batch), all_views(other)))


def test_a_large_batch_takes_the_memory_it_is_given():
    """4,096 pictures of 224 pixels and 8 workers: 16 whole batches would be 9.9 GB."""
    settings = config(Path("/nowhere"), "synthetic:5000", workers=8)
    loader = Loader(
        open_source(settings),
        settings,
        preprocess=Preprocess(PreprocessConfig(), 224),
        tokenizer=ClipTokenizer(),
        batch_size=4096,
        steps=1,
    )
    rows, ring = loader._room()
    assert rows == 64
    assert ring is not None
    assert ring.slots >= 8 * 2
    assert 450e6 < ring.slots * ring.size <= 500e6


class Pids(Source):
    """Whose caption is the process that read it."""

    def __len__(self) -> int:
        return 512

    def __getitem__(self, index: int) -> Sample:
        return Sample(key="", image=picture(index), captions=(str(os.getpid()),))

    def where(self, index: int) -> tuple[str, str]:
        return "here", str(index)

    def describe(self) -> str:
        return "pids"


def test_all_workers_make_the_first_batch():
    settings = config(Path("/nowhere"), "unused", workers=4)
    [batch] = make_loader(Pids(), settings, batch_size=512, steps=1)
    made = Counter(read(batch.texts[0]))
    assert list(made.values()) == [128] * 4
