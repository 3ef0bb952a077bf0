"""Webdataset shards to batches with two worker processes: the loaders that both train with, and
torch's with a picture a file.

`DIPTYCH_PHOTOS=photos.tar` takes the pictures of a tar (ImageNet's photographs, say), else
scikit-learn's two photographs are cut into some of 640 x 480.
"""

import io
import itertools
import os
import statistics
import tarfile
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import cast
from unittest import mock

import open_clip
import psutil
import torch
from open_clip_train.data import get_wds_dataset
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.compare import Row
from benchmarks.inputs import pictures
from benchmarks.towers import captions
from diptych.batch import Sample
from diptych.config import AugmentConfig, DataConfig, PreprocessConfig, TokenizerConfig
from diptych.data import Loader, Order, Source, open_source, write_shards
from diptych.data.files import OpenFiles
from diptych.inputs import Preprocess, build_tokenizer

SHARDS, PER_SHARD, BATCH, ROUNDS, RUN = 16, 128, 64, 5, 64
_TOTAL = SHARDS * PER_SHARD
_NEAR = 1 << 16
"""Bytes that a disk reads ahead anyway: whoever goes on within them reads forward."""


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, kind = _write(folder)
        data = DataConfig(path=path, workers=2, augment=AugmentConfig(scale=(0.9, 1.0)), cache=name)
        loaders: dict[str, Iterable[object]] = {
            "ours": _ours(data),
            "theirs": _theirs(path),
            "torch": DataLoader(_Files(folder / "files"), BATCH, shuffle=True, num_workers=2),
        }
        taken = _measured(loaders)
        for peer, called in (("theirs", "open_clip with webdataset"), ("torch", "torch, files")):
            for unit, place in (("/s", 0), ("/s of a core", 1)):
                yield Row(
                    name=f"{kind} to batches, 2 workers (beside {called})",
                    unit=unit,
                    ours=_TOTAL / taken["ours"][place],
                    theirs=_TOTAL / taken[peer][place],
                    higher_is_better=True,
                    check=f"{_TOTAL} pairs each",
                )
        source = open_source(data)
        yield Row(
            name=f"reads that go forward: runs of {RUN} (beside single samples)",
            unit="%",
            ours=_forward(source, RUN),
            theirs=_forward(source, 1),
            higher_is_better=True,
            check="of the bytes, as 2 workers read them",
        )


def _write(folder: Path) -> tuple[str, str]:
    """Shards of JPEGs with captions, and the same as files; their brace pattern, and what they
    are."""
    photos = os.environ.get("DIPTYCH_PHOTOS", "")
    jpegs = list(itertools.islice(_photographs(photos), _TOTAL)) if photos else pictures(32)
    texts = captions(_TOTAL)
    samples = (
        Sample(key="", image=jpegs[n % len(jpegs)], captions=(texts[n],)) for n in range(_TOTAL)
    )
    last = len(write_shards(folder / "shards", samples, per_shard=PER_SHARD)) - 1
    (folder / "files").mkdir()
    for n, text in enumerate(texts):
        (folder / "files" / f"{n}.jpg").write_bytes(jpegs[n % len(jpegs)])
        (folder / "files" / f"{n}.txt").write_text(text)
    kilobytes = statistics.mean(map(len, jpegs)) / 1e3
    kind = f"photographs of {kilobytes:.0f} kB" if photos else "JPEGs of 640 x 480"
    return f"{folder}/shards/{{000000..{last:06d}}}.tar", kind


def _photographs(path: str) -> Iterator[bytes]:
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.lower().endswith((".jpg", ".jpeg")):
                file = tar.extractfile(member)
                assert file is not None
                yield file.read()


def _ours(data: DataConfig) -> Loader:
    return Loader(
        open_source(data),
        data,
        preprocess=Preprocess(PreprocessConfig(), 224),
        tokenizer=build_tokenizer(TokenizerConfig(), 77),
        batch_size=BATCH,
        steps=_TOTAL // BATCH,
    )


def _theirs(path: str) -> DataLoader:
    arguments = Namespace(
        train_data=path,
        train_num_samples=_TOTAL,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        batch_size=BATCH,
        workers=2,
        world_size=1,
        seed=0,
    )
    transform = open_clip.image_transform(224, is_train=True)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    return get_wds_dataset(arguments, transform, is_train=True, tokenizer=tokenizer).dataloader


class _Files(Dataset):
    """A picture and its caption a file each, in open_clip's transform."""

    def __init__(self, folder: Path):
        self._folder = folder
        transform = open_clip.image_transform(224, is_train=True)
        self._transform = cast(Callable[[Image.Image], torch.Tensor], transform)
        self._tokenizer = open_clip.get_tokenizer("ViT-B-32")

    def __len__(self) -> int:
        return _TOTAL

    def __getitem__(self, index: int):
        text = (self._folder / f"{index}.txt").read_text()
        image = Image.open(io.BytesIO((self._folder / f"{index}.jpg").read_bytes()))
        return self._transform(image), self._tokenizer([text])[0]


def _measured(loaders: dict[str, Iterable[object]]) -> dict[str, tuple[float, float]]:
    """Median wall seconds of a pass, and processor seconds of all its processes; in turn, after a
    pass that isn't counted."""
    taken = {name: list[tuple[float, float]]() for name in loaders}
    for turn in range(ROUNDS + 1):
        for name, loader in loaders.items():
            start, before = time.perf_counter(), _processor()
            for _ in loader:
                pass
            pair = time.perf_counter() - start, _processor() - before
            if turn:
                taken[name].append(pair)
    medians = dict[str, tuple[float, float]]()
    for name, pairs in taken.items():
        walls, processors = zip(*pairs)
        medians[name] = statistics.median(walls), statistics.median(processors)
    return medians


def _processor() -> float:
    """Seconds of this process, of its children that live, and of those that have ended."""
    own = psutil.Process()
    times = [own.cpu_times(), *(child.cpu_times() for child in own.children(recursive=True))]
    ended = own.cpu_times()
    living = sum(each.user + each.system for each in times)
    return living + ended.children_user + ended.children_system


def _forward(source: Source, consecutive: int) -> float:
    """Percent of the bytes that are read where the same worker's last read of that file ended, or
    a little beyond."""
    order = Order((len(source),), (1.0,), BATCH, seed=0, consecutive=consecutive)
    forward, total, read = 0, 0, OpenFiles.read
    ends = [dict[str, int](), dict[str, int]()]
    for step in range(_TOTAL // BATCH):
        last = ends[step % 2]

        def noted(self: OpenFiles, path: str, offset: int, size: int, most: int) -> bytes:
            nonlocal forward, total
            near = 0 <= offset - last.get(path, -_NEAR - 1) <= _NEAR  # noqa: B023 -- called here
            forward, total = forward + near * size, total + size
            last[path] = offset + size  # noqa: B023
            return read(self, path, offset, size, most)

        with mock.patch.object(OpenFiles, "read", noted):
            for _, _, index in order.batch(step).tolist():
                source[index]
    return 100 * forward / total
