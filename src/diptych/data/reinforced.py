"""What teachers said of a source's samples, read for training."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from diptych.batch import Taught
from diptych.config import AugmentConfig
from diptych.config.serialize import difference
from diptych.data.source import Source
from diptych.data.teacher_store import (
    MISSING,
    Chunk,
    StoredTeacher,
    checksums,
    chunk_path,
    damaged,
    missing_chunks,
    read_chunk,
    read_meta,
    read_places,
    stamped,
)
from diptych.errors import ConfigError, DataError

_OPEN = 4096
"""Files of the store that stay mapped."""
_PROBES = 16
"""Samples that are compared before the first step; the others are when they are read."""


class Reinforced:
    """The vectors of a store, by a sample's place and the numbers of its crop and its caption. Made
    once, and shared by who reads: files are mapped into memory when something of them is wanted.

    `teachers`: names of those that are wanted, in order; none: all. Raises ConfigError, in one
    sentence, where the store is none, isn't finished, or has other teachers.
    """

    def __init__(self, folder: str | Path, teachers: Sequence[str] = ()):
        self.folder = Path(folder)
        self.meta = read_meta(self.folder)
        self.names = tuple(teachers)
        self._chosen = [self._place(name) for name in teachers] or [*range(len(self.meta.teachers))]
        self._chunk = lru_cache(_OPEN)(self._read)
        self._places = read_places(self.folder, self.meta)
        if missing := missing_chunks(self.folder, self.meta):
            raise ConfigError(
                f"{self.folder} isn't finished: {len(missing):,} of {self.meta.chunks:,} files "
                "are missing; run the same `diptych reinforce` command again, which goes on"
            )

    def __reduce__(self) -> Any:
        return Reinforced, (self.folder, self.names)

    def _place(self, name: str) -> int:
        stored = [teacher.name for teacher in self.meta.teachers]
        for place, other in enumerate(stored):
            if other in (name, str(Path(name).expanduser().absolute())):
                return place
        raise ConfigError(
            f"{self.folder} has no vectors of the teacher {name}, but of {', '.join(stored)}; "
            f"name one of these, or run `diptych reinforce` with --teacher {name} and another --out"
        )

    @property
    def teachers(self) -> list[StoredTeacher]:
        """Those that were chosen."""
        return [self.meta.teachers[place] for place in self._chosen]

    def augment(self, config: AugmentConfig) -> AugmentConfig:
        """How a run has to draw its crops, which asks for `config`: as the store's were. Raises
        ConfigError where it asks for others; how many there are, and their seed, needn't be
        said."""
        own = self.meta.augment
        wanted = config if config.crops else replace(config, crops=own.crops, seed=own.seed)
        if wanted == own:
            return own
        flags = [
            f"--data.augment.{name.replace('_', '-')} {_spelled(has)}"
            for name, (_, has) in difference(wanted, own).items()
        ]
        raise ConfigError(
            f"the crops of {self.folder} are others than this run's: give it {' '.join(flags)}, or "
            "make vectors of its own crops (diptych reinforce)"
        )

    def check_source(self, source: Source, name: str) -> None:
        """Raises ConfigError unless the vectors are of this source's samples, as far as their
        number and a few of them say: a part of them will do, and a part of what they are of."""
        meta, whole = self.meta, self.meta.whole or self.meta.samples
        if source.whole != whole:
            raise self._other(f"{name} has {source.whole:,} samples, not {whole:,}")
        if self._places is not None:
            places = source.places(np.arange(len(source)))
            if lacking := np.count_nonzero(~np.isin(places, self._places)):
                raise ConfigError(
                    f"{self.folder} has the vectors of {meta.samples:,} of the {whole:,} samples "
                    f"of {name}, and lacks {lacking:,} of the {len(source):,} that are trained on: "
                    "choose samples that it has (--data.keep, --data.share), or make the vectors "
                    "of all (diptych reinforce … --out ANOTHER)"
                )
        last = len(source) - 1
        for index in {number * last // (_PROBES - 1) for number in range(_PROBES)}:
            # A bad sample, and one that was: when its turn comes, another is taken.
            with contextlib.suppress(DataError, OSError):
                sample, stamp = stamped(source[index])
                place = int(source.places(np.array([index]))[0])
                self.check(place, stamp, f"{sample.key} of {name}")

    def check(self, place: int, stamp: int, name: str) -> None:
        """Of the sample at a place of the whole source. Raises DataError for one that couldn't be
        read when the vectors were made, ConfigError for one that isn't the same any more."""
        index = self._index(place)
        chunk, row = self._chunk(index // self.meta.rows), index % self.meta.rows
        stored = int(chunk.tensors["stamps"][row])
        if stored == MISSING:
            reason = chunk.about.get("bad", {}).get(str(index), "it couldn't be read")
            raise DataError(f"{self.folder} has no vectors of it: {reason}")
        if stored != stamp:
            raise self._other(f"the sample {name} has another picture or other captions")

    def _index(self, place: int) -> int:
        """Which of the store's samples lies at a place of the whole source."""
        return place if self._places is None else int(np.searchsorted(self._places, place))

    def _other(self, what: str) -> ConfigError:
        return ConfigError(
            f"the vectors in {self.folder} are of other data: {what}; choose the store of these "
            "data, or make one (diptych reinforce … --out ANOTHER)"
        )

    def rows(
        self, places: Sequence[int], crops: Sequence[int], captions: Sequence[int]
    ) -> tuple[Taught, ...]:
        """What each teacher says of crops and captions, by their numbers, of the samples at these
        places of the whole source. Raises ConfigError for vectors that aren't as they were
        written."""
        found, indices = list[Taught](), list(map(self._index, places))
        for place in self._chosen:
            images = [self._image(place, *row) for row in zip(indices, crops, strict=True)]
            texts = [self._text(place, *row) for row in zip(indices, captions, strict=True)]
            scale = self.meta.teachers[place].scale
            found.append(Taught(torch.stack(images), torch.stack(texts), scale))
        return tuple(found)

    def _image(self, teacher: int, index: int, crop: int) -> Tensor:
        number, row = divmod(index, self.meta.rows)
        tensors = self._chunk(number).tensors
        vector, told = (
            tensors[f"{teacher}.{name}"][row, crop] for name in ("images", "image_sums")
        )
        return self._sound(number, vector, told)

    def _text(self, teacher: int, index: int, caption: int) -> Tensor:
        number, row = divmod(index, self.meta.rows)
        tensors = self._chunk(number).tensors
        start = int(tensors["ends"][row - 1]) if row else 0
        text = int(tensors["captions"][start + caption])
        vector, told = (tensors[f"{teacher}.{name}"][text] for name in ("texts", "text_sums"))
        return self._sound(number, vector, told)

    def _sound(self, number: int, vector: Tensor, told: Tensor) -> Tensor:
        if checksums(vector) != told:
            raise self._broken(number, "a vector has another checksum than it had")
        return vector

    def _read(self, number: int) -> Chunk:
        try:
            return read_chunk(self.folder, self.meta, self.meta.chunk(number))
        except (OSError, SafetensorError, ValueError) as error:
            raise self._broken(number, str(error)) from error

    def _broken(self, number: int, what: str) -> ConfigError:
        path = chunk_path(self.folder, self.meta.chunk(number))
        return damaged(self.folder, f"{path.name}: {what}")


def _spelled(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
