"""Batches of pictures of their own aspect for training loops of one's own: patches with their
places, as many pictures as a budget of tokens allows. As open_clip's main branch makes them.

https://github.com/mlfoundations/open_clip, src/open_clip_train/naflex_data.py
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import get_worker_info

from diptych.compat.naflex_config import NaFlexDataConfig, PatchSize
from diptych.compat.open_clip_train.batches import SharedEpoch
from diptych.compat.open_clip_train.naflex_schedule import NaFlexBatchScheduler, Shape
from diptych.compat.open_clip_train.texts import (
    collate_variable_text as collate_variable_text,
)
from diptych.errors import DataError

NAFLEX_AVAILABLE = True
"""Nothing else has to be installed."""
_MAX_CONSECUTIVE_DECODE_FAILURES = 1000
Patches = dict[str, Any]
"""`patches` [patches, pixels x colours], `patch_coord` [patches, 2], `patch_valid` [patches]."""


class SampleDecodeError(DataError):
    """A picture that can't be used, in `NaFlexBatcher`."""


def create_naflex_data_config_from_args(
    args: Any,
    default_patch_size: PatchSize | None = None,
    default_eval_seq_len: int | None = None,
) -> NaFlexDataConfig:
    """What `naflex_patch_sizes`, `naflex_seq_lens` and their like say among arguments; the model's
    own sizes where they say nothing."""
    said = vars(args)
    sizes, lengths = said.get("naflex_patch_sizes"), said.get("naflex_seq_lens")
    if sizes is None and default_patch_size is not None:
        sizes = [default_patch_size]
    return NaFlexDataConfig.resolve(
        patch_sizes=sizes,
        patch_size_probs=said.get("naflex_patch_size_probs"),
        seq_lens=lengths,
        seq_len_probs=said.get("naflex_seq_len_probs"),
        train_num_image_tokens=said.get("naflex_num_train_image_tokens"),
        max_tokens_per_batch=said.get("naflex_max_tokens_per_batch"),
        batch_divisor=said.get("naflex_batch_divisor", 8),
        eval_seq_len=default_eval_seq_len if lengths is None else None,
    )


def patchify(image: Float[Tensor, "colours height width"], patch_size: tuple[int, int]) -> Patches:
    """A picture's patches in reading order, colours last within each; what lacks to whole ones is
    0.

    >>> import torch
    >>> from diptych.compat.open_clip_train.naflex_data import patchify
    >>> found = patchify(torch.zeros(3, 20, 32), (16, 16))
    >>> found["patches"].shape, found["patch_coord"].tolist()
    (torch.Size([4, 768]), [[0, 0], [0, 1], [1, 0], [1, 1]])
    """
    high, wide = patch_size
    colours, height, width = image.shape
    image = F.pad(image, (0, -width % wide, 0, -height % high))
    rows, columns = image.shape[1] // high, image.shape[2] // wide
    cells = image.reshape(colours, rows, high, columns, wide).permute(1, 3, 2, 4, 0)
    return {
        "patches": cells.reshape(rows * columns, -1),
        "patch_coord": torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).view(-1, 2),
        "patch_valid": torch.ones(rows * columns, dtype=torch.bool),
    }


def collate_patches(pictures: Sequence[Mapping[str, Any]], seq_len: int) -> Patches:
    """A batch of pictures' patches, each padded with 0 to `seq_len`, or cut to it."""
    found = Patches()
    for name in ("patches", "patch_coord", "patch_valid"):
        rows = [picture[name][:seq_len] for picture in pictures]
        lacking = [seq_len - len(row) for row in rows]
        padded = [
            F.pad(row, (0, 0) * (row.ndim - 1) + (0, count))
            for row, count in zip(rows, lacking, strict=True)
        ]
        found[name] = torch.stack(padded)
    return found | {"seq_len": seq_len}


def collate_naflex_tuples(
    batch: Sequence[tuple[Mapping[str, Any], Any]], max_seq_len: int | None = None
) -> tuple[Patches, Tensor]:
    """Patches of pictures, and what stands beside each, stacked."""
    longest = max_seq_len or max(len(picture["patches"]) for picture, _ in batch)
    return collate_patches([picture for picture, _ in batch], longest), torch.stack(
        [torch.as_tensor(target) for _, target in batch]
    )


class NaFlexBatcher:
    """A stage of a pipeline: samples, dicts with a picture and ids, to batches of patches.

    `transform_factory(max_seq_len, patch_size)` gives the transform of a batch's pictures, to a
    tensor or to patches. `decode_fn` makes a picture of what a sample has; where one can't be used,
    `decode_error_handler` says whether the next sample takes the place. The options of its
    schedule are `NaFlexBatchScheduler`'s; `patch_size` is the one of `patch_size_choices`.

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
        transform_factory: Callable[..., Callable[[Any], Any]],
        patch_size: PatchSize | None = None,
        patch_size_choices: Sequence[PatchSize] | None = None,
        patch_size_choice_probs: Sequence[float] | None = None,
        distributed: bool = False,
        rank: int = 0,
        world_size: int = 1,
        epoch: int | SharedEpoch = 0,
        primary_key: str = "image",
        target_key: str = "text",
        decode_fn: Callable[[Any], Any] | None = None,
        decode_error_handler: Callable[[Exception], bool] | None = None,
        drop_last: bool = True,
        **schedule: Any,
    ):
        sizes = NaFlexDataConfig.resolve(
            patch_sizes=patch_size_choices if patch_size is None else [patch_size],
            patch_size_probs=patch_size_choice_probs,
        )
        self.world_size = world_size if distributed else 1
        self.scheduler = NaFlexBatchScheduler(
            patch_sizes=sizes.train_patch_sizes,
            patch_size_probs=sizes.train_patch_size_probs,
            world_size=self.world_size,
            **schedule,
        )
        self.transform_factory, self.epoch = transform_factory, epoch
        self.primary_key, self.target_key, self.drop_last = primary_key, target_key, drop_last
        self.decode_fn, self.decode_error_handler = decode_fn, decode_error_handler
        self.rank = rank

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
        return sum(rows for _, rows in schedule) * self.world_size

    def run(self, src: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """The batches of this loader process, of the samples that come to it."""
        epoch = self.epoch.get_value() if isinstance(self.epoch, SharedEpoch) else self.epoch
        worker, samples = get_worker_info(), iter(src)
        place, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for shape, rows in self.scheduler.epoch_schedule(epoch, workers)[place::workers]:
            transform = self.transform_factory(
                max_seq_len=shape.seq_len, patch_size=shape.patch_size
            )
            found = self._rows(samples, transform, shape, rows)
            if not found or (len(found) < rows and self.drop_last):
                return
            images, targets = collate_naflex_tuples(found, shape.seq_len)
            yield {self.primary_key: images, self.target_key: targets}

    __call__ = run

    def _rows(
        self, samples: Iterator[Mapping[str, Any]], transform: Any, shape: Shape, count: int
    ) -> list[tuple[Patches, Any]]:
        found, failed = list[tuple[Patches, Any]](), 0
        while len(found) < count and (sample := next(samples, None)) is not None:
            try:
                found.append((self._patches(sample, transform, shape), sample[self.target_key]))
                failed = 0
            except SampleDecodeError as error:
                failed += 1
                going_on = self.decode_error_handler is not None and self.decode_error_handler(
                    error
                )
                if not going_on or failed >= _MAX_CONSECUTIVE_DECODE_FAILURES:
                    raise
        return found

    def _patches(self, sample: Mapping[str, Any], transform: Any, shape: Shape) -> Patches:
        try:
            picture = sample[self.primary_key]
            picture = picture if self.decode_fn is None else self.decode_fn(picture)
            return as_patches(transform(picture), shape)
        except Exception as error:  # whatever a user's functions raise for a broken picture
            raise SampleDecodeError(f"a sample can't be used: {error}") from error


def as_patches(picture: Any, shape: Shape) -> Patches:
    """What a transform gave: patches, or a tensor that becomes them."""
    return picture if isinstance(picture, dict) else patchify(picture, shape.patch_size)


def get_naflex_loss_scale(batch: Mapping[str, Any], args: Any, task: Any) -> float:
    """By what the loss of a batch of patches is multiplied, as `args.naflex_loss_scale` says: its
    size beside `args.batch_size` (`linear`), the root of that (`sqrt`), or nothing (`none`)."""
    chosen = vars(args).get("naflex_loss_scale", "none")
    if chosen == "none" or not isinstance(batch.get("image"), Mapping):
        return 1.0
    ratio = task.batch_size(batch) / args.batch_size
    return math.sqrt(ratio) if chosen == "sqrt" else ratio
