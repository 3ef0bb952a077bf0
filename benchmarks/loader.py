"""Webdataset shards to batches with two worker processes: the loaders that both train with."""

import io
import tarfile
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import open_clip
from open_clip_train.data import get_wds_dataset

from benchmarks.compare import Row, seconds
from benchmarks.inputs import pictures
from benchmarks.towers import captions
from diptych.batch import Views
from diptych.config import AugmentConfig, DataConfig, PreprocessConfig, TokenizerConfig
from diptych.data import Loader, open_source
from diptych.distributed import Peers
from diptych.inputs import Preprocess, build_tokenizer

SHARDS, PER_SHARD, BATCH = 4, 128, 32


def write(folder: Path) -> str:
    """Shards of 640x480 JPEGs with captions; their brace pattern."""
    jpegs, texts = pictures(32), captions(PER_SHARD)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as tar:
            for index in range(PER_SHARD):
                for ending, data in (("jpg", jpegs[index % 32]), ("txt", texts[index].encode())):
                    member = tarfile.TarInfo(f"{shard:03d}{index:05d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return str(folder / f"{{000..{SHARDS - 1:03d}}}.tar")


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name))
        total = SHARDS * PER_SHARD
        config = DataConfig(
            path=path, workers=2, augment=AugmentConfig(scale=(0.9, 1.0)), cache=name
        )
        source = open_source(config)
        preprocess, tokenizer = (
            Preprocess(PreprocessConfig(), 224),
            build_tokenizer(TokenizerConfig(), 77),
        )

        def ours() -> int:
            loader = Loader(
                source,
                config,
                preprocess=preprocess,
                tokenizer=tokenizer,
                views=Views(),
                batch_size=BATCH,
                seed=0,
                peers=Peers(),
                steps=total // BATCH,
            )
            return sum(len(batch) for batch in loader)

        their_loader = _theirs(path, total)

        def theirs() -> int:
            return sum(len(images) for images, _ in their_loader)

        same = f"{ours()} and {theirs()} pairs"
        mine, other = seconds(ours, theirs, rounds=5)
        yield Row(
            name="shards to batches, 2 workers",
            unit="/s",
            ours=total / mine,
            theirs=total / other,
            higher_is_better=True,
            check=same,
        )


def _theirs(path: str, total: int):
    arguments = Namespace(
        train_data=path,
        train_num_samples=total,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        batch_size=BATCH,
        workers=2,
        world_size=1,
        seed=0,
    )
    transform = open_clip.image_transform(224, is_train=True)
    info = get_wds_dataset(
        arguments, transform, is_train=True, tokenizer=open_clip.get_tokenizer("ViT-B-32")
    )
    return info.dataloader
