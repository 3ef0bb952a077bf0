"""One process's share of what teachers say of a source: a file of the store after the other."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import normalize

from diptych.batch import Sample
from diptych.data import BadSample, BadSamples, Source
from diptych.data.teacher_store import (
    MISSING,
    Chunk,
    StoreMeta,
    chunk_path,
    is_sound,
    read_chunk,
    stamped,
    write_chunk,
)
from diptych.encoder.encoder import Encoder
from diptych.encoder.extract import extract
from diptych.encoder.progress import track
from diptych.errors import DataError
from diptych.inputs import TrainCrop, decode
from diptych.inputs.resize import Interpolation
from diptych.inputs.room import room
from diptych.inputs.truncation import Truncated, find_truncated
from diptych.models.blocks import ROWS as BLOCK
from diptych.models.blocks import in_blocks
from diptych.threads import usable_cores

_Squares = dict[tuple[int, Interpolation], UInt8[Tensor, "crops 3 _ _"]]
"""A picture's crops, once for each size and way to resize that teachers have."""


class _Item(NamedTuple):
    chunk: range
    place: int
    """In the source."""
    number: int
    """Its place in the whole source, by which crops are drawn."""
    sample: Sample
    stamp: int


@dataclass
class _Filling:
    """The file that is being made."""

    chunk: range
    images: list[Float[Tensor, "samples crops _"]]
    stamps: dict[int, int] = field(default_factory=dict[int, int])
    captions: dict[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    bad: dict[str, str] = field(default_factory=dict[str, str])
    again: bool = False
    """Whether some sample may be read another time: a disk didn't answer."""


class Share:
    """The files that one process makes: `made` samples, `bad` ones, and how many texts each teacher
    cut."""

    def __init__(
        self,
        source: Source,
        teachers: Sequence[Encoder],
        out: Path,
        meta: StoreMeta,
        bad: BadSamples,
    ):
        self.source, self.teachers, self.out, self.meta = source, teachers, out, meta
        self.bad, self.made, self.truncated = bad, 0, dict[int, Truncated]()
        kinds = {_kind(teacher) for teacher in teachers}
        self._crops = {kind: TrainCrop(meta.augment, *kind) for kind in kinds}
        self._fillings = dict[range, _Filling]()

    def run(self, chunks: Iterator[range], max_bad_share: float, progress: bool) -> None:
        """Make those of the `chunks` that aren't there, or aren't sound."""
        missing = [chunk for chunk in chunks if not self._is_there(chunk)]
        # Whole blocks, where as many samples of a file are left.
        together = BLOCK // math.gcd(BLOCK, self.meta.augment.crops)
        batches = extract(
            self._items(missing, max_bad_share),
            self._prepare,
            self._encode,
            batch_size=together,
            threads=min(8, usable_cores()),
            unreadable=lambda item, error: self._note(item.chunk, item.place, error),
            group=lambda item: item.chunk,
            name=lambda item: ", ".join(self.source.where(item.place)),
        )
        total = sum(map(len, missing))
        for items, found in track(batches, "pictures", total) if progress and total else batches:
            self._finish(before=items[0].chunk)
            self._take(items, found)
        self._finish()
        self.bad.stop_if_above(max_bad_share)

    def _is_there(self, chunk: range) -> bool:
        if not chunk_path(self.out, chunk).exists():
            return False
        try:
            content = read_chunk(self.out, self.meta, chunk)
        except (OSError, SafetensorError, ValueError):
            return False
        return is_sound(content, len(self.teachers)) and not content.about.get("again")

    def _items(self, chunks: Sequence[range], max_bad_share: float) -> Iterator[_Item]:
        for chunk in chunks:
            crops = self.meta.augment.crops
            widths = (teacher.width for teacher in self.teachers)
            images = [torch.zeros(len(chunk), crops, width) for width in widths]
            self._fillings[chunk] = _Filling(chunk, images)
            for index in chunk:
                try:
                    sample, stamp = stamped(self.source[index])
                    if not sample.captions:
                        raise DataError("no caption")
                except (DataError, OSError) as error:
                    self._note(chunk, index, error)
                    continue
                number = int(self.source.places(np.array([index]))[0])
                yield _Item(chunk, index, number, sample, stamp)
            self.bad.add(len(chunk), [])
            self.bad.stop_if_above(max_bad_share)

    def _note(self, chunk: range, index: int, error: Exception) -> None:
        filling = self._fillings[chunk]
        filling.bad[str(index)] = str(error)
        passing = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
        filling.again = filling.again or passing
        self.bad.add(0, [BadSample(*self.source.where(index), str(error))])

    def _prepare(self, item: _Item) -> _Squares:
        with room.held():
            levels, found = decode(item.sample.image), _Squares()
            for kind, crop in self._crops.items():
                crops = range(self.meta.augment.crops)
                rngs = (crop.numbered(item.number, number) for number in crops)
                found[kind] = torch.stack([crop(levels, rng) for rng in rngs])
            return found

    def _encode(self, squares: list[_Squares]) -> list[Float[Tensor, "batch crops _"]]:
        """Of each teacher."""
        found = list[Tensor]()
        for teacher in self.teachers:
            pixels = torch.cat([each[_kind(teacher)] for each in squares])
            rows = _unit(in_blocks(teacher.image_features, pixels))
            found.append(rows.view(len(squares), self.meta.augment.crops, -1))
        return found

    def _take(self, items: Sequence[_Item], found: Sequence[Tensor]) -> None:
        filling = self._fillings[items[0].chunk]
        rows = [item.place - filling.chunk.start for item in items]
        for images, vectors in zip(filling.images, found, strict=True):
            images[rows] = vectors
        for row, item in zip(rows, items, strict=True):
            filling.stamps[row], filling.captions[row] = item.stamp, item.sample.captions

    def _finish(self, before: range | None = None) -> None:
        """Write the files of which all samples are there: all, or those `before` a file's."""
        for chunk in list(self._fillings):
            if before is not None and chunk.start >= before.start:
                continue
            filling = self._fillings.pop(chunk)
            try:
                write_chunk(self.out, self.meta, chunk, self._content(filling))
            except (OSError, SafetensorError) as error:
                raise DataError(
                    f"{self.out} can't be written ({error}); make room, and repeat the command: "
                    "it goes on"
                ) from error
            self.made += len(chunk)

    def _content(self, filling: _Filling) -> Chunk:
        kind: torch.dtype = getattr(torch, self.meta.vectors)
        rows = range(len(filling.chunk))
        numbers, captions, ends = dict[str, int](), list[int](), list[int]()
        for row in rows:
            for text in filling.captions.get(row, ()):
                captions.append(numbers.setdefault(text, len(numbers)))
            ends.append(len(captions))
        tensors = {
            "stamps": torch.tensor([filling.stamps.get(row, MISSING) for row in rows]),
            "ends": torch.tensor(ends),
            "captions": torch.tensor(captions, dtype=torch.int64),
        }
        for place in range(len(self.teachers)):
            tensors[f"{place}.images"] = filling.images[place].to(kind)
            tensors[f"{place}.texts"] = self._texts(place, list(numbers)).to(kind)
        return Chunk(tensors, {"bad": filling.bad, "again": filling.again})

    def _texts(self, place: int, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
        teacher, tokenizer = self.teachers[place], self.teachers[place].tokenizer
        if not texts:
            return torch.zeros(0, teacher.width)
        rows = list(map(tokenizer.encode, texts))
        if cut := find_truncated(tokenizer, texts, rows):
            before = self.truncated.get(place)
            self.truncated[place] = joined([before, cut] if before else [cut])
        # Of one length, as of one number: a vector doesn't depend on what is beside it.
        ids = tokenizer.pad(rows, tokenizer.context_length)
        return _unit(in_blocks(teacher.text_features, ids))


def _kind(teacher: Encoder) -> tuple[int, Interpolation]:
    return teacher.preprocess.size, teacher.preprocess.config.interpolation


def _unit(features: Tensor) -> Tensor:
    return normalize(features.float(), dim=-1)


def joined(found: Sequence[Truncated]) -> Truncated:
    """What was cut of several lots of texts, as of one."""
    count, texts = sum(each.count for each in found), sum(each.of for each in found)
    return replace(found[0], count=count, of=texts)
