"""What Diptych keeps beside a data set: teachers' vectors, and pieces of remote shards."""

import contextlib
from pathlib import Path

import fsspec

from diptych.batch import Sample
from diptych.config import AugmentConfig, DataConfig
from diptych.data import open_source, write_shards
from diptych.data.reinforced import Reinforced
from diptych.data.source import Source
from diptych.data.teacher_store import read_chunk
from diptych.encoder import reinforce
from diptych.errors import DataError
from tests import tiny
from tests.inputs.pictures import encoded, photo

_CROPS = 2
_SHARD = "memory://fuzzing/000000.tar"


def samples() -> list[Sample]:
    picture = encoded(photo(20, 16), "PNG")
    texts = (("a cat",), ("a", "b"), ("a",))
    return [Sample(key="", image=picture, captions=captions) for captions in texts]


def _data(folder: Path) -> DataConfig:
    return DataConfig(
        path=str(folder.parent / "shards"),
        cache=str(folder.parent / "cache"),
        augment=AugmentConfig(crops=_CROPS),
        workers=0,
    )


def teachers_store(folder: Path) -> list[Path]:
    if not (folder.parent / "shards").exists():
        write_shards(folder.parent / "shards", samples())
    reinforce(_data(folder), [tiny.encoder()], folder)
    return [path for path in folder.iterdir() if path.is_file() and path.name != "lock"]


def read_teachers(folder: Path) -> None:
    """As a distillation reads: the vectors of each crop and caption."""
    data = _data(folder)
    store, source = Reinforced(folder), open_source(data)
    store.augment(data.augment)
    store.check_source(source, "the source")
    for index in range(len(source)):
        with contextlib.suppress(DataError):
            captions = range(len(source[index].captions))
            for crop in range(_CROPS):
                store.rows([index] * len(captions), [crop] * len(captions), captions)


def reinforce_again(folder: Path) -> None:
    """Whatever was damaged: afterwards all of it can be read, or it was refused."""
    reinforce(_data(folder), [tiny.encoder()], folder)
    read_teachers(folder)
    store = Reinforced(folder)
    chunk = read_chunk(folder, store.meta, store.meta.chunk(0))
    assert chunk.tensors["0.images"].isfinite().all()


def _remote(folder: Path) -> DataConfig:
    return DataConfig(path=_SHARD, cache=str(folder), workers=0)


def remote(folder: Path) -> list[Path]:
    """The index of a remote shard, its pages, and how much they take."""
    [shard] = write_shards(folder.parent / "remote shards", samples())
    fsspec.filesystem("memory").pipe_file("/fuzzing/000000.tar", shard.read_bytes())
    open_source(_remote(folder))[0]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if path.stat().st_size]


def read_remote(folder: Path) -> None:
    """As the loader reads: what is wrong with one sample is a DataError of that sample. Then again,
    without the pages, which are asked for and counted anew."""
    source = open_source(_remote(folder))
    _each(source)
    for page in (folder / "remote").glob("[!.]*"):
        page.unlink()
    _each(source)


def _each(source: Source) -> None:
    for index in range(min(len(source), 8)):
        with contextlib.suppress(DataError):
            source[index]
