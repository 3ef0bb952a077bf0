"""From a source to batches on the device: in other processes, and the same batches however many
there are.

Workers are forked where the system is Linux. Two of them on two busy cores: ready after 0.1 s, with
forkserver after 12 s (each imports torch again). A forked worker also shares its parent's memory of
the source's index, and a script needs no `if __name__ == "__main__"`. What makes a fork unsafe
stays out of the worker: it never touches CUDA, and it computes on one thread, so that it needs no
thread pool, which would have stayed behind in the parent.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from diptych.batch import Batch, Sample, TextLengths, Views, sent
from diptych.config import DataConfig
from diptych.data.bad import BadSamples
from diptych.data.order import Order
from diptych.data.reinforced import Reinforced
from diptych.data.source import BadSample, Source
from diptych.data.teacher_store import stamped
from diptych.data.truncated import TruncatedCaptions
from diptych.data.views import BatchViews, Reader, SampleViews, ViewTransform
from diptych.data.workers import Note, in_order
from diptych.distributed import Peers
from diptych.errors import ConfigError, DataError
from diptych.inputs import Preprocess, Tokenizer
from diptych.inputs.room import room

_ATTEMPTS = 100
"""Substitutes that are tried for a bad sample before the source is given up."""


class _Fetched(NamedTuple):
    """One process's rows of a step, as a worker hands them over. No views: `_ATTEMPTS` samples in a
    row were bad."""

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


@dataclass(frozen=True)
class _Steps:
    """Step -> this process's rows of its batch. What a worker runs; item n depends on nothing but
    n."""

    streams: tuple[Source, ...]
    order: Order
    rows: slice
    transform: ViewTransform
    reinforced: Reinforced | None = None

    def __call__(self, item: int, note: Note) -> _Fetched:
        try:
            return self._fetch(item, note)
        except ConfigError as error:
            return _Fetched(None, None, 0, (), str(error))

    def _fetch(self, item: int, note: Note) -> _Fetched:
        bad: list[BadSample] = []
        rows: list[_Row] = []
        for stream, epoch, index in self.order.batch(item, self.rows).tolist():
            row = self._read(stream, epoch, index, bad, note)
            if row is None:
                return _Fetched(None, None, len(rows) + len(bad), bad)
            rows.append(row)
        views = self.transform.collate([row.views for row in rows])
        if self.reinforced is not None:
            drawn = [row.views.drawn for row in rows]
            taught = self.reinforced.rows(
                [row.sample_index for row in rows],
                [numbers.crop for numbers in drawn],
                [numbers.caption for numbers in drawn],
            )
            views = views._replace(taught=taught)
        return _Fetched(
            views=views,
            sample_index=torch.tensor([row.sample_index for row in rows]),
            read=len(rows) + len(bad),
            bad=bad,
        )

    def _read(
        self, stream: int, epoch: int, index: int, bad: list[BadSample], note: Note
    ) -> _Row | None:
        """The sample's views, or those of a substitute; bad samples on the way are added to `bad`.
        None: all were bad."""
        source, start, tried = self.streams[stream], sum(self.order.sizes[:stream]), index
        for attempt in range(_ATTEMPTS):
            # Keyed by the place in the order alone, so that the crop, or the substitute, is the
            # same in whichever worker or process it is drawn.
            rng = np.random.default_rng(
                (self.order.seed % (1 << 64), stream, epoch, index, attempt)
            )
            if attempt:
                tried = int(rng.integers(len(source)))
            note.reading(partial(_named, source, tried))
            try:
                sample = self._known(source[tried], start + tried)
                return _Row(self.transform(sample, rng, start + tried), start + tried)
            except (DataError, OSError) as error:
                bad.append(BadSample(*source.where(tried), str(error)))
        return None

    def _known(self, sample: Sample, place: int) -> Sample:
        """The sample, which is the one that teachers saw, if they were asked before. Raises
        DataError if they weren't, ConfigError if it is another."""
        if self.reinforced is None:
            return sample
        sample, stamp = stamped(sample)
        self.reinforced.check(place, stamp, sample.key)
        return sample


class Loader:
    """The batches of a run from `start_step` to `steps`, on the peers' device, this process's rows
    of each. `start_sample`: how many samples the steps before took; None: a batch each.

    `Batch.images` are the levels UInt8[batch_size / peers.size, 3, size, size], to be normalised
    when they are needed (`Batch.ready`), and `Batch.texts` as long as the longest caption of these
    rows: one for each of the `views`. A batch depends on the seed and the step only: not on the
    workers, not on the processes, not on where the run was continued. A bad sample is replaced by
    another one, counted and listed in `bad`; `truncated` counts the captions that are longer than
    the context.

    `reinforced`: what teachers said of the same samples, which becomes `Batch.taught`; its crops
    are then what `config.augment` draws. `readers`: teachers that are to be asked, and what they
    are shown becomes `Batch.taught`.

    Who waits for a batch hears signals. A read that takes long is said in a DataWarning.

    Raises ConfigError when the batch can't be split among the processes or filled from the source,
    and where `reinforced` is of other samples or crops; while it iterates, DataError when more than
    `config.max_bad_share` of the samples are bad, or a process that reads them has died.

    >>> from diptych.config import DataConfig, PreprocessConfig, TokenizerConfig
    >>> from diptych.data import Loader, open_source
    >>> from diptych.inputs import Preprocess, build_tokenizer
    >>> config = DataConfig(path="synthetic:100", workers=0)
    >>> loader = Loader(open_source(config), config, preprocess=Preprocess(PreprocessConfig(), 32),
    ...                 tokenizer=build_tokenizer(TokenizerConfig()), batch_size=4, steps=1)
    >>> [tuple(batch.images[0].shape) for batch in loader]
    [(4, 3, 32, 32)]
    """

    def __init__(
        self,
        source: Source,
        config: DataConfig,
        *,
        preprocess: Preprocess,
        tokenizer: Tokenizer,
        batch_size: int,
        steps: int,
        start_step: int = 0,
        start_sample: int | None = None,
        seed: int = 0,
        views: Views | None = None,
        peers: Peers | None = None,
        reinforced: Reinforced | None = None,
        readers: Sequence[Reader] = (),
    ):
        peers = peers or Peers()
        if batch_size % peers.size:
            raise ConfigError(
                f"--batch-size {batch_size} can't be split evenly among {peers.size} processes"
            )
        if len(source) < batch_size:
            raise ConfigError(
                f"--batch-size {batch_size} is more than the {len(source):,} samples of "
                f"{config.path}"
            )
        self.bad = BadSamples(source.bad_samples, len(source))
        self.truncated = TruncatedCaptions(tokenizer.context_length, quiet=not peers.is_main)
        self._max_bad_share = config.max_bad_share
        self._preprocess, self._device, self._workers = preprocess, peers.device, config.workers
        self._range = range(start_step, steps)
        if reinforced is not None:
            config = replace(config, augment=reinforced.augment(config.augment))
            reinforced.check_source(source, config.path or source.describe())
        views = views or Views()
        own = batch_size // peers.size
        self._steps = _Steps(
            streams=source.streams,
            order=Order(
                sizes=tuple(map(len, source.streams)),
                weights=source.weights,
                batch_size=batch_size,
                seed=seed,
                resample=config.resample,
                consecutive=config.consecutive,
                first_step=start_step,
                first_sample=start_step * batch_size if start_sample is None else start_sample,
            ),
            rows=slice(peers.rank * own, (peers.rank + 1) * own),
            transform=ViewTransform.from_config(views, config, preprocess, tokenizer, readers),
            reinforced=reinforced,
        )

    def __len__(self) -> int:
        return len(self._range)

    def __iter__(self) -> Iterator[Batch]:
        if self._device.type == "cuda":
            return self._iterate_cuda()
        return map(self._make_batch, self._fetch())

    def _fetch(self) -> Generator[_Fetched, None, None]:
        """The workers' output in order, with the bad samples counted. The workers live as long
        as this iterates."""
        with (
            room.shared_by(self._workers),
            closing(in_order(self._steps, self._range, self._workers)) as batches,
        ):
            for fetched in batches:
                if fetched.refused:
                    raise ConfigError(fetched.refused)
                self.bad.add(fetched.read, fetched.bad)
                if fetched.views is None:
                    self.bad.stop(len(fetched.bad), fetched.read, f"{_ATTEMPTS} in a row")
                else:
                    self.truncated.add(fetched.views.truncated)
                self.bad.stop_if_above(self._max_bad_share)
                yield fetched

    def _make_batch(self, fetched: _Fetched) -> Batch:
        views = fetched.views
        assert views is not None
        assert fetched.sample_index is not None

        def move(tensor: Tensor) -> Tensor:
            return sent(tensor, self._device)

        levels = (
            move(image)
            if change is None
            else self._steps.transform.strong.apply(move(image), move(change))
            for image, change in zip(views.images, views.changes, strict=True)
        )
        return Batch(
            images=tuple(levels),
            texts=tuple(map(move, views.texts)),
            index=move(fetched.sample_index),
            mlm_labels=views.mlm_labels,
            lengths=tuple(TextLengths(tuple(x.tolist()), move(x)) for x in views.lengths),
            normalise=self._preprocess.normalise,
            taught=tuple(teacher.to(self._device) for teacher in views.taught),
        )

    def _iterate_cuda(self) -> Iterator[Batch]:
        """One batch ahead: its copy runs beside the step that computes with the batch before."""
        side = torch.cuda.Stream(self._device)
        ahead: deque[tuple[Batch, torch.cuda.Event]] = deque()
        for fetched in self._fetch():
            copied = torch.cuda.Event()
            with torch.cuda.stream(side):
                ahead.append((self._make_batch(fetched), copied))
                copied.record()
            if len(ahead) > 1:
                yield self._arrived(*ahead.popleft())
        for batch, copied in ahead:
            yield self._arrived(batch, copied)

    def _arrived(self, batch: Batch, copied: torch.cuda.Event) -> Batch:
        """Make the current stream wait for the copy, and the allocator know that it uses the
        batch."""
        current = torch.cuda.current_stream(self._device)
        current.wait_event(copied)
        others = [view.device for view in batch.lengths or ()]
        for teacher in batch.taught:
            others += [teacher.images, teacher.texts]
        for tensor in (*batch.images, *batch.texts, batch.index, *others):
            tensor.record_stream(current)
        return batch


def _named(source: Source, index: int) -> str:
    """A sample's files, for a message."""
    return ", ".join(source.files(index)) + f" ({source.where(index)[1]})"
