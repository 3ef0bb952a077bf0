"""Teachers' vectors of a source, stored once and read by number (dataset reinforcement, Faghri et
al. 2023, arXiv:2303.08983; for CLIP: Vasu et al. 2023, arXiv:2311.17049).

    FOLDER/
      store.json             whose vectors of which crops of how many samples, and a checksum
      places.npy             of a part of a source (`--data.keep`, `--data.share`): which of its
                             samples these are, in rising order
      000000000.safetensors  those of the first 1024 samples, and so on; each is there as a whole
      ...                    or not at all

Of a crop nothing but its number is kept: it is drawn anew from (seed, sample, number). Of a sample
there is a stamp besides, by which its picture and its captions are known again wherever they lie;
and of each vector a checksum, which is looked at when the vector is. `diptych.encoder.reinforce`
writes all that, and `Reinforced` reads it.
"""

import itertools
import json
import os
import zlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Int64
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from diptych.arrays import map_npy
from diptych.batch import Sample
from diptych.bounded import parse_json, read_text, read_whole
from diptych.config import AugmentConfig
from diptych.config.serialize import read_as
from diptych.durable import write_file
from diptych.errors import ConfigError, DataError, first_line
from diptych.inputs.picture import MAX_BYTES

FORMAT = 1
NAME = "store.json"
PLACES = "places.npy"
_OF_A_PART = {"whole", "part"}
_OF_SAMPLES = {"stamps", "ends", "captions"}
_CHECKED = {"images": "image_sums", "texts": "text_sums"}
MISSING = -1
"""The stamp of a sample that couldn't be read."""
_ENDS = 1 << 15
"""Bytes at either end of a picture that are looked at: more than the header, and part of all that
is encoded, of which no two pictures have the same."""


@dataclass(frozen=True, kw_only=True)
class StoredTeacher:
    """Who made the vectors of a store."""

    name: str
    """What `diptych.load` was given; a local path is absolute."""
    fingerprint: str
    """sha256 of its configuration, preprocessing and tokenizer included, and its weights."""
    width: int
    scale: float
    """The factor on its cosine similarities, the inverse of its temperature."""


@dataclass(frozen=True, kw_only=True)
class StoreMeta:
    """What `store.json` says, beside its own checksum."""

    teachers: tuple[StoredTeacher, ...]
    augment: AugmentConfig
    """How crops are drawn, and how many there are of each picture."""
    samples: int
    rows: int
    """Samples in a file."""
    vectors: Literal["float32", "float16", "bfloat16"]
    format: int = FORMAT
    whole: int = 0
    """Samples of the source of which these are a part; 0: they are all."""
    part: str = ""
    """A checksum of what `places.npy` says."""

    @cached_property
    def check(self) -> str:
        """A checksum of it all."""
        return _checksum(_values(self))

    @property
    def chunks(self) -> int:
        """How many files there are."""
        return -(-self.samples // self.rows)

    def chunk(self, number: int) -> range:
        """The samples of a file."""
        return range(number * self.rows, min((number + 1) * self.rows, self.samples))


class Chunk(NamedTuple):
    """The vectors of some consecutive samples, memory-mapped."""

    tensors: dict[str, Tensor]
    """`stamps` [samples]; `ends` [samples], up to which `captions` are each sample's, which are
    rows of the distinct texts; of teacher t `t.images` [samples, crops, width], `t.texts` [texts,
    width], and the sums of both."""
    about: dict[str, Any]
    """`bad`: why there are no vectors, by the number of the sample."""


def chunk_path(folder: Path, chunk: range) -> Path:
    """Where the vectors of these samples lie."""
    return folder / f"{chunk.start:09d}.safetensors"


def missing_chunks(folder: Path, meta: StoreMeta) -> list[range]:
    """Those of which there is no file yet. Raises OSError."""
    there = {entry.name for entry in os.scandir(folder)}
    chunks = map(meta.chunk, range(meta.chunks))
    return [chunk for chunk in chunks if chunk_path(folder, chunk).name not in there]


def read_chunk(folder: Path, meta: StoreMeta, chunk: range) -> Chunk:
    """The file of these samples. Raises OSError, SafetensorError or ValueError for one that isn't
    as `write_chunk` writes it; the vectors themselves aren't looked at."""
    with safe_open(chunk_path(folder, chunk), framework="pt") as file:
        about: Any = parse_json((file.metadata() or {}).get("about", ""))
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if not isinstance(about, dict) or not shapes.keys() >= _OF_SAMPLES:
        raise ValueError("it holds something else")
    if about.get("store") != meta.check or about.get("check") != _sum_of_samples(tensors):
        raise ValueError("it is of another store, or has another checksum than it says")
    captions, ends, kind = tensors["captions"], tensors["ends"], getattr(torch, meta.vectors)
    low, high = (int(captions.min()), int(captions.max())) if captions.numel() else (0, -1)
    wanted: dict[str, tuple[int, ...]] = {"stamps": (len(chunk),), "ends": (len(chunk),)}
    for place, teacher in enumerate(meta.teachers):
        crops = (len(chunk), meta.augment.crops)
        texts = shapes.get(f"{place}.text_sums", (0,))
        wanted |= {f"{place}.images": (*crops, teacher.width), f"{place}.image_sums": crops}
        wanted |= {f"{place}.texts": (*texts, teacher.width), f"{place}.text_sums": texts}
        if low < 0 or high >= texts[0] or tensors.get(f"{place}.texts", captions).dtype != kind:
            raise ValueError(f"its texts aren't those of {teacher.name}")
    if shapes != wanted | {"captions": (int(ends[-1]),)} or (ends.diff() < 0).any():
        raise ValueError(f"it doesn't hold {len(chunk)} samples")
    return Chunk(tensors, cast(dict[str, Any], about))


def write_chunk(folder: Path, meta: StoreMeta, chunk: range, content: Chunk) -> None:
    """Write the file of these samples, whole or not at all. Raises OSError, and SafetensorError
    where the disk is full."""
    tensors = {name: tensor.contiguous() for name, tensor in content.tensors.items()}
    for place, (rows, sums) in itertools.product(range(len(meta.teachers)), _CHECKED.items()):
        tensors[f"{place}.{sums}"] = checksums(tensors[f"{place}.{rows}"])
    about = content.about | {"store": meta.check, "check": _sum_of_samples(tensors)}
    said = {"about": json.dumps(about)}
    write_file(chunk_path(folder, chunk), lambda path: save_file(tensors, path, metadata=said))


def _sum_of_samples(tensors: dict[str, Tensor]) -> int:
    total = 0
    for name in sorted(_OF_SAMPLES):
        total = zlib.crc32(tensors[name].contiguous().numpy().data, total)
    return total


def is_sound(content: Chunk, teachers: int) -> bool:
    """Whether all vectors of a file are as they were written. Reads them all."""
    for place, (rows, sums) in itertools.product(range(teachers), _CHECKED.items()):
        vectors = content.tensors[f"{place}.{rows}"]
        if not torch.equal(checksums(vectors), content.tensors[f"{place}.{sums}"]):
            return False
    return True


def checksums(vectors: Tensor) -> Tensor:
    """Of each vector [..., width], as [...]."""
    rows = vectors.reshape(-1, vectors.shape[-1]).contiguous().view(torch.uint8).numpy()
    sums = torch.tensor([zlib.crc32(row) for row in rows], dtype=torch.int64)
    return sums.view(vectors.shape[:-1])


def stamped(sample: Sample) -> tuple[Sample, int]:
    """The sample, with its picture read where it was a path, and its stamp. Raises DataError and
    OSError."""
    image = sample.image
    if isinstance(image, str):
        try:
            image = read_whole(image, MAX_BYTES)
        except ValueError as error:
            raise DataError(f"{image}: {error}") from error
    said = json.dumps([len(image), *sample.captions]).encode("utf-8", "surrogatepass")
    stamp = zlib.crc32(image[-_ENDS:], zlib.crc32(image[:_ENDS], zlib.crc32(said)))
    return replace(sample, image=image), stamp


def read_meta(folder: Path) -> StoreMeta:
    """Raises ConfigError, in one sentence, for what is no store."""
    try:
        values: Any = parse_json(read_text(folder / NAME))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(
            f"{folder} holds no teachers' vectors; say where they are by --objective.reinforced, "
            f"or make them with `diptych reinforce SHARDS --teacher MODEL --out {folder}`"
        ) from error
    except OSError as error:
        raise ConfigError(f"{folder} can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise damaged(folder, f"{NAME}: {error}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ConfigError(
            f"{folder} isn't a store of format {FORMAT}, which this version reads: choose another "
            "folder, and make the vectors again"
        )
    if values.pop("check", None) != _checksum(values):
        raise damaged(folder, f"{NAME} has another checksum than it says")
    return read_as(StoreMeta, values, str(folder / NAME))


def write_meta(folder: Path, meta: StoreMeta) -> None:
    """Put `store.json` into the folder. Raises OSError."""
    text = json.dumps(_values(meta) | {"check": meta.check}, indent=2) + "\n"
    write_file(folder / NAME, lambda path: path.write_text(text))


def checksum_of_places(places: Int64[np.ndarray, " samples"]) -> str:
    """What `StoreMeta.part` says of them."""
    return f"{zlib.crc32(places.astype('<i8').tobytes()):08x}"


def write_places(folder: Path, places: Int64[np.ndarray, " samples"]) -> None:
    """Put `places.npy` into the folder. Raises OSError."""
    write_file(folder / PLACES, lambda path: np.save(path, places.astype("<i8")))


def read_places(folder: Path, meta: StoreMeta) -> Int64[np.ndarray, " samples"] | None:
    """Which samples the store has, mapped into memory; None: all. Raises ConfigError where it
    isn't known any more."""
    if not meta.whole:
        return None
    try:
        places = map_npy(folder / PLACES)
    except (OSError, ValueError) as error:
        raise damaged(folder, f"{PLACES}: {first_line(error)}") from error
    if places.shape != (meta.samples,) or checksum_of_places(places) != meta.part:
        raise damaged(folder, f"{PLACES} has another checksum than {NAME} says")
    return places


def _values(meta: StoreMeta) -> dict[str, Any]:
    """As JSON has them; what stores of all samples had from the first, and no more."""
    values = json.loads(json.dumps(asdict(meta)))
    return {name: value for name, value in values.items() if value or name not in _OF_A_PART}


def _checksum(values: Any) -> str:
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"


def damaged(folder: Path, what: str) -> ConfigError:
    """What to say of a store that isn't as it was written."""
    return ConfigError(
        f"{folder} is damaged ({what}); the same `diptych reinforce` command makes again what "
        f"isn't whole; where that is {NAME}, delete the folder first"
    )
