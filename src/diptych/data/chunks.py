"""What a loader's worker does: some rows of a step's batch, whichever worker it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from diptych.batch import Sample
from diptych.data.order import Order
from diptych.data.reinforced import Reinforced
from diptych.data.source import BadSample, Source
from diptych.data.teacher_store import stamped
from diptych.data.views import BatchViews, SampleViews, ViewTransform
from diptych.data.workers import Note
from diptych.errors import ConfigError, DataError

ATTEMPTS = 100
"""Substitutes that are tried for a bad sample before the source is given up."""
_IDS = 1024
"""Ids of a text for which there is a place; longer ones travel by themselves."""


class Chunk(NamedTuple):
    """Rows `start` to `stop` of a step's batch: what a worker is asked for at a time."""

    step: int
    start: int
    stop: int


class Fetched(NamedTuple):
    """A chunk, as a worker hands it over. No views: `ATTEMPTS` samples in a row were bad."""

    views: BatchViews | None
    sample_index: Int[Tensor, " batch"] | None
    read: int
    bad: Sequence[BadSample]
    refused: str = ""
    """Why none of it may be used: a sample isn't the one that teachers saw."""


class _Row(NamedTuple):
    """One sample's views, and its place in the whole source."""

    views: SampleViews
    sample_index: int
    number: int
    """Its place where the source was chosen from, by which teachers know it."""


@dataclass(frozen=True)
class Steps:
    """Chunk -> its rows. What a worker runs; a chunk depends on nothing but its place."""

    source: Source
    order: Order
    transform: ViewTransform
    reinforced: Reinforced | None = None

    @property
    def row_bytes(self) -> int:
        """What a row takes in a chunk."""
        teachers = self.reinforced.teachers if self.reinforced else ()
        said = sum(2 * 4 * teacher.width for teacher in teachers)
        return self.transform.row_bytes(_IDS) + said

    def __call__(self, item: Chunk, note: Note) -> Fetched:
        try:
            return self._fetch(item, note)
        except ConfigError as error:
            return Fetched(None, None, 0, (), str(error))

    def _fetch(self, item: Chunk, note: Note) -> Fetched:
        bad: list[BadSample] = []
        rows: list[_Row] = []
        transform = self.transform.at(self.order.seed, item.step)
        places = self.order.batch(item.step, slice(item.start, item.stop))
        for stream, epoch, index in places.tolist():
            row = self._read(transform, stream, epoch, index, bad, note)
            if row is None:
                return Fetched(None, None, len(rows) + len(bad), bad)
            rows.append(row)
        views = self.transform.collate([row.views for row in rows])
        if self.reinforced is not None:
            drawn = [row.views.drawn for row in rows]
            taught = self.reinforced.rows(
                [row.number for row in rows],
                [numbers.crop for numbers in drawn],
                [numbers.caption for numbers in drawn],
            )
            views = views._replace(taught=taught)
        return Fetched(
            views=views,
            sample_index=torch.tensor([row.sample_index for row in rows]),
            read=len(rows) + len(bad),
            bad=bad,
        )

    def _read(
        self,
        transform: ViewTransform,
        stream: int,
        epoch: int,
        index: int,
        bad: list[BadSample],
        note: Note,
    ) -> _Row | None:
        """The sample's views, or those of a substitute; bad samples on the way are added to `bad`.
        None: all were bad."""
        source, start, tried = self.source.streams[stream], sum(self.order.sizes[:stream]), index
        for attempt in range(ATTEMPTS):
            # Keyed by the place in the order alone, so that the crop, or the substitute, is the
            # same in whichever worker or process it is drawn.
            rng = np.random.default_rng(
                (self.order.seed % (1 << 64), stream, epoch, index, attempt)
            )
            if attempt:
                tried = int(rng.integers(len(source)))
            note.reading(partial(_named, source, tried))
            try:
                number = int(self.source.places(np.array([start + tried]))[0])
                sample = self._known(source[tried], number)
                return _Row(transform(sample, rng, number), start + tried, number)
            except (DataError, OSError) as error:
                bad.append(BadSample(*source.where(tried), str(error)))
        return None

    def _known(self, sample: Sample, number: int) -> Sample:
        """The sample, which is the one that teachers saw, if they were asked before. Raises
        DataError if they weren't, ConfigError if it is another."""
        if self.reinforced is None:
            return sample
        sample, stamp = stamped(sample)
        self.reinforced.check(number, stamp, sample.key)
        return sample


def _named(source: Source, index: int) -> str:
    """A sample's files, for a message."""
    return ", ".join(source.files(index)) + f" ({source.where(index)[1]})"
