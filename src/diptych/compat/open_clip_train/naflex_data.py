"""Batches of pictures of their own aspect for training loops of one's own: patches with their
places, as many pictures as a budget of tokens allows. As open_clip's main branch makes them.

https://github.com/mlfoundations/open_clip, src/open_clip_train/naflex_data.py
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from diptych.compat.open_clip_train.batches import SharedEpoch
from diptych.compat.open_clip_train.naflex_lengths import (
    CaptionLength as CaptionLength,
)
from diptych.compat.open_clip_train.naflex_lengths import (
    LengthBucketer as LengthBucketer,
)
from diptych.compat.open_clip_train.naflex_model import (
    create_naflex_data_config_from_args as create_naflex_data_config_from_args,
)
from diptych.compat.open_clip_train.naflex_model import (
    create_naflex_eval_transform as create_naflex_eval_transform,
)
from diptych.compat.open_clip_train.naflex_model import (
    get_naflex_model_image_seq_len as get_naflex_model_image_seq_len,
)
from diptych.compat.open_clip_train.naflex_model import (
    get_naflex_model_patch_size as get_naflex_model_patch_size,
)
from diptych.compat.open_clip_train.naflex_model import (
    get_naflex_model_supports_patch_interpolation as get_naflex_model_supports_patch_interpolation,
)
from diptych.compat.open_clip_train.naflex_patches import Patches
from diptych.compat.open_clip_train.naflex_patches import (
    collate_naflex_tuples as collate_naflex_tuples,
)
from diptych.compat.open_clip_train.naflex_patches import (
    collate_patches as collate_patches,
)
from diptych.compat.open_clip_train.naflex_patches import (
    patchify as patchify,
)
from diptych.compat.open_clip_train.naflex_schedule import NaFlexBatchScheduler, Shape
from diptych.compat.open_clip_train.texts import (
    collate_variable_text as collate_variable_text,
)
from diptych.errors import ConfigError, DataError

NAFLEX_AVAILABLE = True
"""Nothing else has to be installed."""
_MAX_CONSECUTIVE_DECODE_FAILURES = 1000


class SampleDecodeError(DataError):
    """A picture that can't be used, in `NaFlexBatcher`."""


class _Scheduled:
    """What makes the batches of a schedule, epoch by epoch; `epoch`: a number is the one before the
    first pass, and each pass has the next."""

    def __init__(self, scheduler: NaFlexBatchScheduler, epoch: int | SharedEpoch):
        self.scheduler, self.epoch = scheduler, epoch

    def __len__(self) -> int:
        return self.num_batches

    @property
    def num_batches(self) -> int:
        """Of an epoch, of this process."""
        return self.num_batches_for_workers(1)

    @property
    def num_samples(self) -> int:
        """Of an epoch, over all processes."""
        return self.num_samples_for_workers(1)

    def num_batches_for_workers(self, num_workers: int) -> int:
        """`num_batches`, where so many loader processes have as many each."""
        return len(self.scheduler.epoch_schedule(0, num_workers))

    def num_samples_for_workers(self, num_workers: int) -> int:
        """`num_samples` of these."""
        schedule = self.scheduler.epoch_schedule(0, num_workers)
        return sum(rows for _, rows in schedule) * self.scheduler.world_size

    def _next_epoch(self) -> int:
        if isinstance(self.epoch, SharedEpoch):
            return self.epoch.get_value()
        self.epoch += 1
        return self.epoch


class NaFlexBatcher(_Scheduled):
    """A stage of a pipeline: samples, dicts with a picture and ids, to batches of patches.

    `decode_fn` makes a picture of what a sample has; where one can't be used,
    `decode_error_handler` says whether the next sample takes the place. Other options are
    `NaFlexBatchScheduler`'s.

    >>> import torch
    >>> from diptych.compat.open_clip_train.naflex_data import NaFlexBatcher
    >>> samples = [{"image": torch.zeros(3, 32, 32), "text": torch.tensor([1])}] * 4
    >>> batcher = NaFlexBatcher(train_num_samples=4, patch_size=16, seq_lens=[4], batch_divisor=1,
    ...                         max_tokens_per_batch=8, transform_factory=lambda **_: lambda x: x)
    >>> [batch["image"]["patches"].shape for batch in batcher.run(samples)]
    [torch.Size([2, 4, 768]), torch.Size([2, 4, 768])]
    """

    def __init__(
        self,
        *,
        epoch: int | SharedEpoch = -1,
        primary_key: str = "image",
        decode_fn: Callable[[Any], Any] | None = None,
        decode_error_handler: Callable[[Exception], bool] | None = None,
        drop_last: bool = True,
        **schedule: Any,
    ):
        super().__init__(NaFlexBatchScheduler(image_key=primary_key, **schedule), epoch)
        self.primary_key, self.drop_last = primary_key, drop_last
        self.decode_fn, self.decode_error_handler = decode_fn, decode_error_handler

    def run(self, src: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """The batches of this loader process, of the samples that come to it."""
        place, workers = _worker()
        schedule = self.scheduler.epoch_schedule(self._next_epoch(), workers)
        samples = iter(src)
        for shape, rows in schedule[place::workers]:
            found = self._rows(samples, shape, rows)
            if not found or (len(found) < rows and self.drop_last):
                return
            yield self.scheduler.collate(found, shape)

    __call__ = run

    def _rows(
        self, samples: Iterator[Mapping[str, Any]], shape: Shape, count: int
    ) -> list[tuple[Patches, Any]]:
        found, failed = list[tuple[Patches, Any]](), 0
        while len(found) < count and (sample := next(samples, None)) is not None:
            try:
                found.append(self._row(sample, shape))
                failed = 0
            except SampleDecodeError as error:
                failed += 1
                going_on = self.decode_error_handler is not None and self.decode_error_handler(
                    error
                )
                if not going_on or failed >= _MAX_CONSECUTIVE_DECODE_FAILURES:
                    raise
        return found

    def _row(self, sample: Mapping[str, Any], shape: Shape) -> tuple[Patches, Any]:
        try:
            if self.decode_fn is not None:
                key = self.primary_key
                sample = {**sample, key: self.decode_fn(sample[key])}
            return self.scheduler.row(sample, shape)
        except Exception as error:  # whatever a user's functions raise for a broken picture
            raise SampleDecodeError(f"a sample can't be used: {error}") from error


class NaFlexMapDatasetWrapper(_Scheduled, IterableDataset[dict[str, Any]]):
    """Batches of patches of a data set with indices, whose samples are dicts with a picture and
    ids; for a `DataLoader` with `batch_size=None`.

    An epoch is all samples, or `train_num_tokens` patches of them; where it has more places than
    there are samples, they begin anew. Other options are `NaFlexBatchScheduler`'s. Raises
    ConfigError for a data set without samples.

    >>> import torch
    >>> from diptych.compat.open_clip_train.naflex_data import NaFlexMapDatasetWrapper
    >>> pairs = [{"image": torch.zeros(3, 32, 32), "text": torch.tensor([n])} for n in range(4)]
    >>> made = NaFlexMapDatasetWrapper(pairs, patch_size=16, seq_lens=[4], max_tokens_per_batch=8,
    ...                                batch_divisor=1, shuffle=False,
    ...                                transform_factory=lambda **_: lambda picture: picture)
    >>> [batch["text"].tolist() for batch in made]
    [[[0], [1]], [[2], [3]]]
    """

    def __init__(
        self,
        base_dataset: Dataset[Any] | Sequence[Any],
        train_num_tokens: int | None = None,
        *,
        epoch: int | SharedEpoch = -1,
        **schedule: Any,
    ):
        if not (count := len(base_dataset)):  # pyright: ignore[reportArgumentType]
            raise ConfigError("batches of patches need a data set of 1 sample at the least")
        samples = count if train_num_tokens is None else None
        scheduler = NaFlexBatchScheduler(
            train_num_samples=samples, train_num_tokens=train_num_tokens, **schedule
        )
        super().__init__(scheduler, epoch)
        self.base_dataset, self._count = base_dataset, count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        (place, workers), epoch = _worker(), self._next_epoch()
        schedule = self.scheduler.epoch_schedule(epoch, workers)
        ends = list(accumulate(rows for _, rows in schedule))
        order = self._order(epoch, ends[-1])
        for (shape, rows), end in list(zip(schedule, ends, strict=True))[place::workers]:
            samples = [self.base_dataset[index] for index in order[end - rows : end].tolist()]
            found = [self.scheduler.row(sample, shape) for sample in samples]
            yield self.scheduler.collate(found, shape)

    def _order(self, epoch: int, samples: int) -> Tensor:
        """Which samples this process has in an epoch, one after the other."""
        rank, size = self.scheduler.rank, self.scheduler.world_size
        rng = torch.Generator().manual_seed(self.scheduler.seed + epoch)
        passes = range(math.ceil(samples * size / self._count))
        if self.scheduler.shuffle:
            orders = [torch.randperm(self._count, generator=rng) for _ in passes]
        else:
            orders = [torch.arange(self._count) for _ in passes]
        return torch.cat(orders)[rank : samples * size : size]


def _worker() -> tuple[int, int]:
    """Which of the loader processes this is, and how many there are."""
    worker = get_worker_info()
    return (0, 1) if worker is None else (worker.id, worker.num_workers)


def get_naflex_loss_scale(batch: Mapping[str, Any], args: Any, task: Any) -> float:
    """By what the loss of a batch of patches is multiplied, as `args.naflex_loss_scale` says: its
    size beside `args.batch_size` (`linear`), the root of that (`sqrt`), or nothing (`none`)."""
    chosen = vars(args).get("naflex_loss_scale", "none")
    if chosen == "none" or not isinstance(batch.get("image"), Mapping):
        return 1.0
    ratio = task.batch_size(batch) / args.batch_size
    return math.sqrt(ratio) if chosen == "sqrt" else ratio
