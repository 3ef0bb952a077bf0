"""Image features of a whole source, for several models at once: each picture is read and decoded
once, whoever asks."""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from diptych.batch import Sample
from diptych.config import PreprocessConfig
from diptych.config.serialize import to_dict
from diptych.data import BadSample, Source
from diptych.distributed import Peers, together
from diptych.encoder.cache import Cache, CacheEntry, digest
from diptych.encoder.encoder import Encoder
from diptych.encoder.extract import extract
from diptych.encoder.progress import track
from diptych.errors import DataError, ImageError, reason
from diptych.inputs import Preprocess, decode
from diptych.inputs.room import room
from diptych.threads import usable_cores

ROWS = 512
"""Samples in a chunk, which is one entry of the cache. Batches end where a chunk ends, so vectors
don't depend on who computed what, or when."""


@dataclass(frozen=True, kw_only=True)
class FeatureExtractor:
    """A model, and one way to preprocess pictures for it: its own `preprocess`, or another of the
    same size."""

    encoder: Encoder
    preprocess: Preprocess

    @cached_property
    def key(self) -> str:
        """The digest of all that these features depend on, but for the pictures."""
        preprocess = to_dict(self.preprocess.config)
        return digest("view", self.encoder.identity.fingerprint, preprocess, self.preprocess.size)

    def features(self, pixels: UInt8[Tensor, "batch 3 height wide"]) -> Float[Tensor, "batch ..."]:
        """What the model makes of squares that `squares` gave, on the CPU."""
        return self.encoder.image_features(pixels)

    @property
    def squares(self) -> Preprocess:
        """How pixels are made. Extractors that differ in mean and deviation alone share them."""
        plain = PreprocessConfig()
        return replace(
            self.preprocess, config=replace(self.preprocess.config, mean=plain.mean, std=plain.std)
        )


@dataclass(frozen=True, kw_only=True)
class ImageFeatures:
    """One extractor's features of a source's good samples, in order, and the bad samples."""

    rows: Int[Tensor, " pictures"]
    """Numbers of the samples in their source."""
    samples: Sequence[Sample]
    """What they say; the picture itself is left out."""
    features: Float[Tensor, "pictures ..."]
    """As the extractor gave them: of any length, in the tower's precision."""
    bad: Sequence[BadSample]

    @cached_property
    def vectors(self) -> Float[Tensor, "pictures width"]:
        """Of unit length, in float32."""
        return normalize(self.features.float(), dim=-1)


def extract_features(
    extractors: Sequence[FeatureExtractor],
    source: Source,
    *,
    fields: Sequence[str],
    saying: str = "",
    shown: str = "",
    limit: int = 0,
    cache: Cache | None = None,
    batch_size: int = 64,
    progress: bool = False,
    peers: Peers | None = None,
) -> list[ImageFeatures]:
    """Each extractor's features of the source's first `limit` samples (0: all), in the order of the
    extractors.

    Each picture is decoded once, resized once for each way of resizing, and goes once through each
    model; what `cache` has isn't computed. `fields` of the samples are kept ("label", "captions");
    `saying` is a digest of what they depend on beside the files, such as the class names, and
    `shown` of which pictures of the files are taken. A sample of several `frames` has the mean of
    theirs (`mean_of_frames`); a batch is `batch_size` samples with all of their frames. With
    `peers` every process takes its share of the chunks, and all get the same; a cache on disk is
    one that they all see.

    Samples that can't be read or decoded are listed in `bad`. Raises DataError if the cache can't
    be written.

    >>> from diptych import Encoder, models, pretrained
    >>> from diptych.config import DataConfig
    >>> from diptych.data import open_source
    >>> from diptych.encoder import FeatureExtractor, extract_features
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> extractor = FeatureExtractor(encoder=encoder, preprocess=encoder.preprocess)
    >>> source = open_source(DataConfig(path="synthetic:3"))
    >>> [images] = extract_features([extractor], source, fields=["label"])
    >>> images.vectors.shape, len(images.samples), images.bad
    (torch.Size([3, 128]), 3, [])
    """
    cache, peers = cache or Cache(), peers or Peers()
    count = min(limit, len(source)) if limit else len(source)
    files = source_version(source, count, shown)
    places = [f"images/{digest(extractor.key, files)}" for extractor in extractors]
    samples_place = f"samples/{digest(files, saying, list(fields))}"
    chunks = [range(start, min(start + ROWS, count)) for start in range(0, count, ROWS)]
    own = chunks[peers.rank :: peers.size]
    missing = dict[range, list[str]]()
    for chunk in own:
        wanted = dict.fromkeys((samples_place, *places))
        if absent := [place for place in wanted if cache.read(_entry(place, chunk)) is None]:
            missing[chunk] = absent
    by_place = dict(zip(places, extractors, strict=True))
    work = _Extraction(source, by_place, samples_place, tuple(fields), missing)
    together(peers, lambda: work.run(cache, batch_size, progress))
    entries = [_entry(*pair) for pair in itertools.product((samples_place, *by_place), own)]
    cache.share(entries, peers)
    return [_join(cache, source, samples_place, place, chunks) for place in places]


def source_version(source: Source, count: int, shown: str = "") -> str:
    """A digest of a source's first `count` samples: their names, and sizes and times of the files
    they depend on. Another one when a file is replaced under its name, or `shown` changes."""
    numbers, names = range(count), set[str]()
    for index in numbers:
        names.update(source.files(index))
    states = list[object]()
    for name in sorted(names):
        path = Path(name)
        state = path.stat() if path.exists() else None
        states.append((os.path.abspath(name), state.st_size, state.st_mtime_ns) if state else name)
    names_in_files = [source.where(index) for index in numbers]
    return digest(states, names_in_files, *filter(None, [shown]))


def mean_of_frames(
    features: Float[Tensor, "pictures ..."], counts: Sequence[int]
) -> Float[Tensor, "samples ..."]:
    """A feature for each sample: that of its picture or, of a clip, the mean of the unit vectors of
    its frames, in float32. `counts` are the pictures of each sample.

    >>> import torch
    >>> from diptych.encoder.features import mean_of_frames
    >>> mean_of_frames(torch.tensor([[3.0, 4.0], [0.0, 2.0], [5.0, 0.0]]), [2, 1]).tolist()
    [[0.30000001192092896, 0.8999999761581421], [1.0, 0.0]]
    """
    if len(features) == len(counts):
        return features
    frames = normalize(features.float(), dim=-1).split([*counts])
    return torch.stack([each.mean(0) for each in frames])


class _Item(NamedTuple):
    chunk: range
    row: int
    sample: Sample


class _Part(NamedTuple):
    """A batch of a chunk: which samples, and their features by place in the cache."""

    rows: list[int]
    features: dict[str, Tensor]


class _Extraction:
    """One pass over the chunks of which something is missing in the cache."""

    def __init__(
        self,
        source: Source,
        extractors: dict[str, FeatureExtractor],
        samples_place: str,
        fields: tuple[str, ...],
        missing: dict[range, list[str]],
    ):
        self.source, self.extractors, self.samples_place = source, extractors, samples_place
        self.fields, self.missing = fields, missing
        self.samples = {chunk: list[dict[str, object]]() for chunk in missing}
        self.unread = {chunk: dict[str, str]() for chunk in missing}
        self.undecoded = {chunk: dict[str, str]() for chunk in missing}
        self.parts = {chunk: list[_Part]() for chunk in missing}
        self.lasting = dict.fromkeys(missing, True)

    def run(self, cache: Cache, batch_size: int, progress: bool) -> None:
        batches = extract(
            self._items(),
            self._prepare,
            lambda prepared: prepared,
            batch_size=batch_size,
            threads=min(8, usable_cores()),
            unreadable=self._note_undecoded,
            group=lambda item: item.chunk,
            name=lambda item: ", ".join(self.source.where(item.row)),
        )
        total = sum(map(len, self.missing))
        open_chunk = None
        for items, prepared in track(batches, "pictures", total) if progress and total else batches:
            chunk = items[0].chunk
            if open_chunk is not None and chunk != open_chunk:
                self._write(cache, open_chunk)
            open_chunk = chunk
            rows = [item.row for item in items]
            self.parts[chunk].append(_Part(rows, self._encode(chunk, prepared)))
        for chunk in list(self.missing):
            self._write(cache, chunk)

    def _items(self) -> Iterator[_Item]:
        for chunk in list(self.missing):
            for index in chunk:
                try:
                    sample = self.source[index]
                except (DataError, OSError) as error:
                    self.unread[chunk][str(index)] = str(error)
                    # A disk that didn't respond may do so next time.
                    self.lasting[chunk] = self.lasting[chunk] and isinstance(error, DataError)
                    continue
                kept: dict[str, object] = {name: getattr(sample, name) for name in self.fields}
                said = {name: value for name, value in kept.items() if value not in (None, ())}
                about: dict[str, object] = {"row": index, "key": sample.key}
                self.samples[chunk].append(about | said)
                yield _Item(chunk, index, sample)

    def _note_undecoded(self, item: _Item, error: ImageError) -> None:
        self.undecoded[item.chunk][str(item.row)] = str(error)

    def _prepare(self, item: _Item) -> dict[Preprocess, UInt8[Tensor, "frames 3 height wide"]]:
        wanted = {extractor.squares for extractor in self._missing_extractors(item.chunk).values()}
        if not wanted:
            return {}
        with room.held():
            return self._squares(item, wanted)

    def _squares(
        self, item: _Item, wanted: set[Preprocess]
    ) -> dict[Preprocess, UInt8[Tensor, "frames 3 height wide"]]:
        try:
            pictures = [*map(decode, item.sample.frames or (item.sample.image,))]
        except (ImageError, OSError) as error:
            raise ImageError(reason(error)) from error
        found = dict[Preprocess, Tensor]()
        for squares in wanted:
            found[squares] = torch.stack([squares.pixels(levels) for levels in pictures])
        return found

    def _encode(self, chunk: range, prepared: list[dict[Preprocess, Tensor]]) -> dict[str, Tensor]:
        pixels, counts = dict[Preprocess, Tensor](), list[int]()
        for squares in prepared[0]:
            parts = [each[squares] for each in prepared]
            pixels[squares], counts = torch.cat(parts), [*map(len, parts)]
        return {
            place: mean_of_frames(extractor.features(pixels[extractor.squares]), counts)
            for place, extractor in self._missing_extractors(chunk).items()
        }

    def _missing_extractors(self, chunk: range) -> dict[str, FeatureExtractor]:
        places = [place for place in self.missing[chunk] if place != self.samples_place]
        return {place: self.extractors[place] for place in places}

    def _write(self, cache: Cache, chunk: range) -> None:
        parts = self.parts.pop(chunk)
        for place in self.missing.pop(chunk):
            if place == self.samples_place:
                about = {"samples": self.samples[chunk], "bad": self.unread[chunk]}
                entry = CacheEntry(about=about)
            else:
                entry = self._features_entry(place, chunk, parts)
            cache.write(_entry(place, chunk), entry, lasting=self.lasting[chunk])
        del self.samples[chunk]

    def _features_entry(self, place: str, chunk: range, parts: Sequence[_Part]) -> CacheEntry:
        rows = list[int]()
        for part in parts:
            rows += part.rows
        nothing = torch.zeros(0, self.extractors[place].encoder.width)
        features = torch.cat([part.features[place] for part in parts]) if parts else nothing
        return CacheEntry(
            tensors={"rows": torch.tensor(rows, dtype=torch.long), "features": features},
            about={"bad": self.undecoded[chunk]},
        )


def _entry(place: str, chunk: range) -> str:
    """Where the chunk's entry lies in the cache."""
    return f"{place}/{chunk.start:08d}-{chunk.stop:08d}"


def _join(
    cache: Cache, source: Source, samples_place: str, place: str, chunks: Sequence[range]
) -> ImageFeatures:
    """The chunks as one; rows count that have both features and a sample."""
    rows, features, samples, bad = list[Tensor](), list[Tensor](), list[Sample](), list[BadSample]()
    for chunk in chunks:
        said, images = cache.read(_entry(samples_place, chunk)), cache.read(_entry(place, chunk))
        if said is None or images is None:
            raise DataError(
                f"the cache in {cache.folder} misses a part that another process wrote; "
                "it has to lie where all see it"
            )
        known = {values["row"]: values for values in said.about["samples"]}
        reasons = images.about["bad"] | said.about["bad"]
        used = [at for at, row in enumerate(images.tensors["rows"].tolist()) if row in known]
        rows.append(images.tensors["rows"][used])
        features.append(images.tensors["features"][used])
        samples += [_sample(known[row]) for row in rows[-1].tolist()]
        bad += [BadSample(*source.where(int(row)), reason) for row, reason in reasons.items()]
    # A chunk without a good picture doesn't know what features look like.
    known_shape = [part for part in features if len(part)] or features[:1]
    return ImageFeatures(
        rows=torch.cat(rows), samples=samples, features=torch.cat(known_shape), bad=bad
    )


def _sample(values: dict[str, Any]) -> Sample:
    kept: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name != "row"
    }
    return Sample(image=b"", **kept)
