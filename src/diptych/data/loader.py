"""From a source to batches on the device: in other processes, and the same batches however many
there are.

Workers are forked where the system is Linux. Two of them on two busy cores: ready after 0.1 s, with
forkserver after 12 s (each imports torch again). A forked worker also shares its parent's memory of
the source's index, and a script needs no `if __name__ == "__main__"`. What makes a fork unsafe
stays out of the worker: it never touches CUDA, and it computes on one thread, so that it needs no
thread pool, which would have stayed behind in the parent.
"""

import contextlib
import itertools
import math
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from diptych.batch import Batch, HiddenPatches, TextLengths, Views, sent
from diptych.config import DataConfig
from diptych.data.assembly import Assembly
from diptych.data.bad import BadSamples
from diptych.data.chunks import ATTEMPTS, Chunk, Fetched, Steps
from diptych.data.order import Order
from diptych.data.reinforced import Reinforced
from diptych.data.remote import shown
from diptych.data.ring import Ring
from diptych.data.source import BadSample, Source
from diptych.data.truncated import TruncatedCaptions
from diptych.data.views import BatchViews, Reader, ViewTransform
from diptych.data.workers import in_order
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.inputs import Preprocess, Tokenizer
from diptych.inputs.images import import_readers
from diptych.inputs.room import room

_CHUNK = 64
"""Rows of a batch that one worker makes at a time, at most."""
_AHEAD = 2
"""Batches that each worker may be ahead by, if there is memory for them."""
_SPARE = 1 << 14
"""Bytes of a chunk besides its rows."""


class _Whole(NamedTuple):
    """This process's rows of a step, its pictures on the device."""

    views: BatchViews
    sample_index: Int[Tensor, " batch"]


class Loader:
    """The batches of a run from `start_step` to `steps`, on the peers' device, this process's rows
    of each. `taken`: how many samples of each stream of the source the steps before took; empty: as
    many as if they had been like these.

    A worker makes a chunk of a batch at a time, of at most 64 rows, in memory that is shared and as
    large as `config.prefetch` allows; so a large batch is made by all workers together.

    `Batch.images` are the levels UInt8[batch_size / peers.size, 3, size, size], or columns of as
    many patches (`inputs.native`) as the step's budget has (`config.patches`), to be normalised
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
        taken: tuple[int, ...] = (),
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
                f"{shown(config.path)}"
            )
        self.bad = BadSamples(source.bad_samples, len(source))
        self.truncated = TruncatedCaptions(tokenizer.context_length, quiet=not peers.is_main)
        self._max_bad_share = config.max_bad_share
        self._preprocess, self._device, self._workers = preprocess, peers.device, config.workers
        self._range = range(start_step, steps)
        if reinforced is not None:
            config = replace(config, augment=reinforced.augment(config.augment))
            reinforced.check_source(source, shown(config.path) or source.describe())
        views = views or Views()
        own = batch_size // peers.size
        self._rows = range(peers.rank * own, (peers.rank + 1) * own)
        self._prefetch, self._pad_id = round(config.prefetch * 1e6), tokenizer.pad_id
        self.order = Order(
            sizes=tuple(map(len, source.streams)),
            weights=source.weights,
            batch_size=batch_size,
            seed=seed,
            resample=config.resample,
            consecutive=config.consecutive,
            first_step=start_step,
            first_taken=taken,
        )
        self._steps = Steps(
            source=source,
            order=self.order,
            transform=ViewTransform.from_config(views, config, preprocess, tokenizer, readers),
            reinforced=reinforced,
        )

    def __len__(self) -> int:
        return len(self._range)

    def __iter__(self) -> Iterator[Batch]:
        if self._device.type == "cuda":
            return self._iterate_cuda()
        return map(self._make_batch, self._fetch(None))

    def _chunks(self, rows: int) -> Iterator[Chunk]:
        for step in self._range:
            for start in self._rows[::rows]:
                yield Chunk(step, start, min(start + rows, self._rows.stop))

    def _room(self) -> tuple[int, Ring | None]:
        """Rows of a chunk, and the workers' memory: of `--data.prefetch` what is of use."""
        own = len(self._rows)
        if not self._workers:
            return own, None
        if sys.platform != "linux":  # where there is no fork, chunks come through a pipe
            return min(own, _CHUNK), None
        row = self._steps.row_bytes
        fit = self._prefetch // row  # rows, of all chunks
        rows = max(1, min(own, _CHUNK, fit // (2 * self._workers)))
        most = _AHEAD * self._workers * math.ceil(own / rows)
        return rows, Ring(max(1, min(most, fit // rows)), rows * row + _SPARE)

    def _fetch(self, stream: torch.cuda.Stream | None) -> Generator[_Whole, None, None]:
        """The rows of each step, put together from the workers' chunks, with the bad samples
        counted. The workers live as long as this iterates."""
        rows, ring = self._room()
        import_readers()
        with contextlib.ExitStack() as stack:
            stack.enter_context(room.shared_by(self._workers))
            work = in_order(self._steps, self._chunks(rows), self._workers, ring)
            chunks: Iterator[Fetched] = stack.enter_context(closing(work))
            if ring is not None and stream is not None:
                first = list(itertools.islice(chunks, 1))  # forks: what is locked isn't inherited
                stack.enter_context(ring.pinned())
                chunks = itertools.chain(first, chunks)
            while whole := self._assemble(chunks, stream):
                yield whole

    def _assemble(
        self, chunks: Iterator[Fetched], stream: torch.cuda.Stream | None
    ) -> _Whole | None:
        """The next step's rows; None after the last one."""
        whole = Assembly(len(self._rows), self._pad_id, self._device, stream)
        read, bad = 0, list[BadSample]()
        for fetched in chunks:
            if fetched.refused:
                raise ConfigError(fetched.refused)
            read, bad = read + fetched.read, [*bad, *fetched.bad]
            if fetched.views is None:
                self.bad.add(read, bad)
                self.bad.stop(len(fetched.bad), fetched.read, f"{ATTEMPTS} in a row")
            assert fetched.views is not None
            assert fetched.sample_index is not None
            self.truncated.add(fetched.views.truncated)
            whole.add(fetched.views, fetched.sample_index)
            if whole.full:
                self.bad.add(read, bad)
                self.bad.stop_if_above(self._max_bad_share)
                return _Whole(*whole.views())
        return None

    def _make_batch(self, whole: _Whole) -> Batch:
        views = whole.views

        def move(tensor: Tensor) -> Tensor:
            return sent(tensor, self._device)

        levels = (
            image if change is None else self._steps.transform.strong.apply(image, move(change))
            for image, change in zip(views.images, views.changes, strict=True)
        )
        return Batch(
            images=tuple(levels),
            texts=tuple(map(move, views.texts)),
            index=move(whole.sample_index),
            mlm_labels=views.mlm_labels,
            lengths=tuple(TextLengths(tuple(x.tolist()), move(x)) for x in views.lengths),
            normalise=self._preprocess.normalise,
            hidden=None
            if views.hidden is None
            else HiddenPatches.of(views.hidden).to(self._device),
            taught=tuple(teacher.to(self._device) for teacher in views.taught),
        )

    def _iterate_cuda(self) -> Iterator[Batch]:
        """One batch ahead: its copy runs beside the step that computes with the batch before."""
        side = torch.cuda.Stream(self._device)
        ahead: deque[tuple[Batch, torch.cuda.Event]] = deque()
        for whole in self._fetch(side):
            copied = torch.cuda.Event()
            with torch.cuda.stream(side):
                ahead.append((self._make_batch(whole), copied))
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
        others += [] if batch.hidden is None else [batch.hidden.places]
        for teacher in batch.taught:
            others += [teacher.images, teacher.texts]
        for tensor in (*batch.images, *batch.texts, batch.index, *others):
            tensor.record_stream(current)
        return batch
