"""The pictures of a set as vectors, for several models at once: each is read and decoded once,
whoever asks."""

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
from diptych.encoder.cache import Block, Cache, digest
from diptych.encoder.encoder import Encoder
from diptych.encoder.extract import extract
from diptych.encoder.progress import track
from diptych.errors import DataError, ImageError
from diptych.inputs import Preprocess, decode

ROWS = 512
"""Samples in a block. Batches end where a block ends, so vectors don't depend on who computed what,
or when."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A model, and how it is shown pictures: its own `preprocess`, or another of the same size."""

    encoder: Encoder
    preprocess: Preprocess

    @cached_property
    def key(self) -> str:
        """The digest of all that this view's features depend on, but for the pictures."""
        preprocess = to_dict(self.preprocess.config)
        return digest("view", self.encoder.identity.fingerprint, preprocess, self.preprocess.size)

    def features(self, pixels: UInt8[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch ..."]:
        """What the model makes of squares that `squares` gave, on the CPU."""
        return self.encoder.image_features(pixels)

    @property
    def squares(self) -> Preprocess:
        """How pixels are made. Views that differ in mean and deviation alone share them."""
        plain = PreprocessConfig()
        return replace(
            self.preprocess, config=replace(self.preprocess.config, mean=plain.mean, std=plain.std)
        )


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of a set that could be used, in order, as one view sees them, and those that
    couldn't."""

    rows: Int[Tensor, " pictures"]
    """Numbers of the samples in their source."""
    samples: Sequence[Sample]
    """What they say; the picture itself is left out."""
    features: Float[Tensor, "pictures ..."]
    """As the view gave them: of any length, in the tower's precision."""
    bad: Sequence[BadSample]

    @cached_property
    def vectors(self) -> Float[Tensor, "pictures width"]:
        """Of unit length, in float32."""
        return normalize(self.features.float(), dim=-1)


def embed_pictures(
    views: Sequence[View],
    source: Source,
    *,
    fields: Sequence[str],
    saying: str = "",
    limit: int = 0,
    cache: Cache | None = None,
    batch_size: int = 64,
    progress: bool = False,
    peers: Peers | None = None,
) -> list[Pictures]:
    """What each view makes of the source's first `limit` samples (0: all), in the order of the
    views.

    Each picture is decoded once, resized once for each way of resizing, and goes once through each
    model; what `cache` has isn't computed. `fields` of the samples are kept ("label", "captions");
    `saying` is a digest of what they depend on beside the files, such as the class names. With
    `peers` every process embeds its share of the blocks, and all get the same; a cache on disk is
    one that they all see.

    Pictures that can't be read or decoded are listed in `bad`. Raises DataError if the cache can't
    be written."""
    cache, peers = cache or Cache(), peers or Peers()
    count = min(limit, len(source)) if limit else len(source)
    files = fingerprint(source, count)
    views_of = {f"images/{digest(view.key, files)}": view for view in views}
    said = f"samples/{digest(files, saying, list(fields))}"
    blocks = [range(start, min(start + ROWS, count)) for start in range(0, count, ROWS)]
    own = blocks[peers.rank :: peers.size]
    missing = {
        block: [place for place in (said, *views_of) if cache.read(_name(place, block)) is None]
        for block in own
    }
    work = _Work(
        source,
        views_of,
        said,
        tuple(fields),
        {block: places for block, places in missing.items() if places},
    )
    together(peers, lambda: work.run(cache, batch_size, progress))
    cache.share([_name(place, block) for place in (said, *views_of) for block in own], peers)
    return [
        _join(cache, source, said, f"images/{digest(view.key, files)}", blocks) for view in views
    ]


def fingerprint(source: Source, count: int) -> str:
    """A digest of a source's first `count` samples: their names, and sizes and times of the files
    they depend on."""
    places = [source.where(index) for index in range(count)]
    states = []
    for name in sorted({name for index in range(count) for name in source.files(index)}):
        path = Path(name)
        state = path.stat() if path.exists() else None
        states.append((os.path.abspath(name), state.st_size, state.st_mtime_ns) if state else name)
    return digest(states, places)


class _Item(NamedTuple):
    block: range
    row: int
    sample: Sample


class _Work:
    """One pass over the blocks of which something is missing."""

    def __init__(
        self,
        source: Source,
        views: dict[str, View],
        said: str,
        fields: tuple[str, ...],
        missing: dict[range, list[str]],
    ):
        self.source, self.views, self.said, self.fields, self.missing = (
            source,
            views,
            said,
            fields,
            missing,
        )
        self.samples = {block: list[dict[str, object]]() for block in missing}
        self.unread = {block: dict[str, str]() for block in missing}
        self.undecoded = {block: dict[str, str]() for block in missing}
        self.features = {block: list[tuple[list[int], dict[str, Tensor]]]() for block in missing}
        self.lasting = dict.fromkeys(missing, True)

    def run(self, cache: Cache, batch_size: int, progress: bool) -> None:
        batches = extract(
            self._items(),
            self._prepare,
            lambda prepared: prepared,
            batch_size=batch_size,
            threads=min(8, os.cpu_count() or 1),
            unreadable=lambda item, error: self.undecoded[item.block].update(
                {str(item.row): str(error)}
            ),
            group=lambda item: item.block,
        )
        total = sum(len(block) for block in self.missing)
        open_block = None
        for items, prepared in track(batches, "pictures", total) if progress and total else batches:
            block = items[0].block
            if open_block is not None and block != open_block:
                self._write(cache, open_block)
            open_block = block
            self.features[block].append(
                ([item.row for item in items], self._encode(block, prepared))
            )
        for block in list(self.missing):
            self._write(cache, block)

    def _items(self) -> Iterator[_Item]:
        for block in list(self.missing):
            for index in block:
                try:
                    sample = self.source[index]
                except (DataError, OSError) as error:
                    self.unread[block][str(index)] = str(error)
                    # A disk that didn't answer may do so next time.
                    self.lasting[block] = self.lasting[block] and isinstance(error, DataError)
                    continue
                kept = {
                    name: value
                    for name in self.fields
                    if (value := getattr(sample, name)) not in (None, ())
                }
                self.samples[block].append({"row": index, "key": sample.key} | kept)
                yield _Item(block, index, sample)

    def _prepare(self, item: _Item) -> dict[Preprocess, UInt8[Tensor, "3 size size"]]:
        wanted = {view.squares for view in self._missing_views(item.block).values()}
        if not wanted:
            return {}
        try:
            levels = decode(item.sample.image)
        except (ImageError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ImageError(reason) from error
        return {squares: squares.pixels(levels) for squares in wanted}

    def _encode(self, block: range, prepared: list[dict[Preprocess, Tensor]]) -> dict[str, Tensor]:
        pixels = {
            squares: torch.stack([each[squares] for each in prepared]) for squares in prepared[0]
        }
        views = self._missing_views(block).items()
        return {place: view.features(pixels[view.squares]) for place, view in views}

    def _missing_views(self, block: range) -> dict[str, View]:
        return {place: self.views[place] for place in self.missing[block] if place != self.said}

    def _write(self, cache: Cache, block: range) -> None:
        parts = self.features.pop(block)
        for place in self.missing.pop(block):
            if place == self.said:
                about = {"samples": self.samples[block], "bad": self.unread[block]}
                cache.write(_name(place, block), Block(about=about), lasting=self.lasting[block])
                continue
            rows = torch.tensor([row for rows, _ in parts for row in rows], dtype=torch.long)
            nothing = torch.zeros(0, self.views[place].encoder.width)
            features = torch.cat([features[place] for _, features in parts]) if parts else nothing
            made = Block(
                tensors={"rows": rows, "features": features}, about={"bad": self.undecoded[block]}
            )
            cache.write(_name(place, block), made, lasting=self.lasting[block])
        del self.samples[block]


def _name(place: str, block: range) -> str:
    return f"{place}/{block.start:08d}-{block.stop:08d}"


def _join(cache: Cache, source: Source, said: str, place: str, blocks: Sequence[range]) -> Pictures:
    """The blocks as one; rows count that have both features and a sample."""
    rows, features, samples, bad = list[Tensor](), list[Tensor](), list[Sample](), list[BadSample]()
    for block in blocks:
        told, seen = cache.read(_name(said, block)), cache.read(_name(place, block))
        if told is None or seen is None:
            raise DataError(
                f"the cache in {cache.folder} misses a part that another process wrote; it has to lie where all see it"
            )
        known = {values["row"]: values for values in told.about["samples"]}
        reasons = seen.about["bad"] | told.about["bad"]
        used = [place for place, row in enumerate(seen.tensors["rows"].tolist()) if row in known]
        rows.append(seen.tensors["rows"][used])
        features.append(seen.tensors["features"][used])
        samples += [_sample(known[row]) for row in rows[-1].tolist()]
        bad += [BadSample(*source.where(int(row)), reason) for row, reason in reasons.items()]
    # A block without a good picture doesn't know what features look like.
    known_shape = [part for part in features if len(part)] or features[:1]
    return Pictures(rows=torch.cat(rows), samples=samples, features=torch.cat(known_shape), bad=bad)


def _sample(values: dict[str, Any]) -> Sample:
    kept: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name != "row"
    }
    return Sample(image=b"", **kept)
