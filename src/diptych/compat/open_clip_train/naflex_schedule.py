"""Of how many pictures each batch of an epoch is, of which patches, and the batch itself."""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from diptych.compat.naflex_config import NaFlexDataConfig, PatchSize
from diptych.compat.open_clip_train.naflex_patches import (
    Patches,
    as_patches,
    collate_naflex_tuples,
    collate_patches,
)
from diptych.compat.open_clip_train.texts import collate_variable_text
from diptych.errors import ConfigError


class Shape(NamedTuple):
    """Of a batch's pictures: the size of a patch, how many patches at most, and whether a patch is
    [height, width, colours] or a row."""

    patch_size: tuple[int, int]
    seq_len: int
    spatial: bool = False


class Schedule:
    """Of how many pictures each batch of an epoch is, and of which shape: drawn once by `seed`, in
    another order in each epoch.

    Exactly one of `train_num_samples` and `train_num_tokens` says how long an epoch is, over all
    processes. `per_row_text_tokens` are a caption's, in the budget of each picture. `spatial`: the
    sizes whose patches aren't rows. Raises ConfigError for both or none, and for numbers that don't
    fit.
    """

    def __init__(
        self,
        train_num_samples: int | None = None,
        train_num_tokens: int | None = None,
        patch_sizes: Sequence[tuple[int, int]] = ((16, 16),),
        patch_size_probs: Sequence[float] | None = None,
        seq_lens: Sequence[int] | None = None,
        seq_len_choice_probs: Sequence[float] | None = None,
        max_tokens_per_batch: int = 1 << 14,
        seed: int = 42,
        shuffle: bool = True,
        world_size: int = 1,
        batch_divisor: int = 8,
        per_row_text_tokens: int = 0,
        spatial: Collection[tuple[int, int]] = (),
    ):
        if (train_num_samples is None) == (train_num_tokens is None):
            raise ConfigError(
                "say either train_num_samples or train_num_tokens, the epoch's length"
            )
        checked = NaFlexDataConfig.resolve(seq_lens=seq_lens, seq_len_probs=seq_len_choice_probs)
        given, lengths = checked.train_seq_len_probs, checked.train_seq_lens
        odds = dict(sorted(zip(lengths, given or [1.0] * len(lengths), strict=True)))
        self.seq_lens = list(odds)
        self.seq_len_probs = None if given is None else list(odds.values())
        if per_row_text_tokens < 0:
            raise ConfigError(f"per_row_text_tokens is 0 or more, and not {per_row_text_tokens}")
        self.seed, self.shuffle = seed, shuffle
        self.per_row_text_tokens = per_row_text_tokens
        self._sizes, self._size_odds = list(patch_sizes), patch_size_probs
        self._spatial = spatial
        self._budget = (max_tokens_per_batch, batch_divisor)
        total = train_num_samples if train_num_tokens is None else train_num_tokens
        assert total is not None
        if total < 1:
            raise ConfigError(f"an epoch has 1 sample or token at the least, and not {total}")
        self._batches = self._drawn(math.ceil(total / world_size), train_num_tokens is not None)

    def rows(self, seq_len: int) -> int:
        """How many pictures of so many patches the budget allows."""
        budget, divisor = self._budget
        most = budget // (seq_len + self.per_row_text_tokens)
        return max(1, most // divisor * divisor)

    def epoch_schedule(self, epoch: int, num_workers: int = 1) -> list[tuple[Shape, int]]:
        """(shape, pictures) of each batch of this process; the first come again until each loader
        process has as many."""
        found = self._batches + self._batches * num_workers
        found = found[: -(-len(self._batches) // num_workers) * num_workers]
        if self.shuffle:
            random.Random(f"{self.seed} {epoch}").shuffle(found)
        return found

    def _drawn(self, left: int, tokens: bool) -> list[tuple[Shape, int]]:
        rng, found = random.Random(self.seed), list[tuple[Shape, int]]()
        while left > 0:
            length = rng.choices(self.seq_lens, self.seq_len_probs)[0]
            size = rng.choices(self._sizes, self._size_odds)[0]
            lacking = math.ceil(left / length) if tokens else left
            rows = min(self.rows(length), lacking)
            found.append((self.shape(size, length), rows))
            left -= rows * length if tokens else rows
        return found

    def shape(self, patch_size: tuple[int, int], seq_len: int) -> Shape:
        """Of a batch of so many patches of this size."""
        return Shape(patch_size, seq_len, patch_size in self._spatial)


class NaFlexBatchScheduler(Schedule):
    """A `Schedule` that makes its batches, too.

    `transform_factory(max_seq_len, patch_size)` gives the transform of a batch's pictures, to a
    tensor or to patches. `patch_size` is the one of `patch_size_choices`; those that aren't
    `model_patch_size` stay [height, width, colours], for the model to resize. With `pad_id` the
    texts of a batch may have several lengths: they are padded with it, and `..._valid` says which
    ids are theirs. Other options are `Schedule`'s. Raises ConfigError as it does.

    >>> import torch
    >>> from diptych.compat.open_clip_train.naflex_data import NaFlexBatchScheduler
    >>> made = NaFlexBatchScheduler(train_num_samples=8, patch_size=16, seq_lens=[4], pad_id=0,
    ...                             transform_factory=lambda **_: lambda picture: picture)
    >>> texts = [torch.tensor([5, 6]), torch.tensor([7])]
    >>> samples = [{"image": torch.zeros(3, 32, 32), "text": text} for text in texts]
    >>> batch = made.collate_batch(samples, seq_len=4, patch_idx=0)
    >>> batch["image"]["patches"].shape, batch["text"].tolist(), batch["text_valid"].tolist()
    (torch.Size([2, 4, 768]), [[5, 6], [7, 0]], [[True, True], [True, False]])
    """

    def __init__(
        self,
        *,
        transform_factory: Callable[..., Callable[[Any], Any]],
        patch_size: PatchSize | None = None,
        patch_size_choices: Sequence[PatchSize] | None = None,
        patch_size_choice_probs: Sequence[float] | None = None,
        model_patch_size: PatchSize | None = None,
        distributed: bool = False,
        rank: int = 0,
        world_size: int = 1,
        image_key: str = "image",
        target_key: str = "text",
        pad_id: int | None = None,
        **schedule: Any,
    ):
        sizes = NaFlexDataConfig.resolve(
            patch_sizes=patch_size_choices if patch_size is None else [patch_size],
            patch_size_probs=patch_size_choice_probs,
            model_patch_size=model_patch_size,
        )
        self.patch_sizes = sizes.train_patch_sizes
        self.rank, self.world_size = (rank, world_size) if distributed else (0, 1)
        super().__init__(
            patch_sizes=self.patch_sizes,
            patch_size_probs=sizes.train_patch_size_probs,
            world_size=self.world_size,
            spatial=[size for size in self.patch_sizes if sizes.is_spatial(size)],
            **schedule,
        )
        self.image_key, self.target_key, self.pad_id = image_key, target_key, pad_id
        self._transforms = {
            self.shape(size, length): transform_factory(max_seq_len=length, patch_size=size)
            for size in self.patch_sizes
            for length in self.seq_lens
        }

    def collate_batch(
        self, samples: Sequence[Mapping[str, Any]], seq_len: int, patch_idx: int
    ) -> dict[str, Any]:
        """A batch of samples: `seq_len` is one of `seq_lens`, `patch_idx` the place of its size
        among `patch_sizes`. Raises ConfigError for others."""
        if seq_len not in self.seq_lens or not 0 <= patch_idx < len(self.patch_sizes):
            raise ConfigError(
                f"no batch is of {seq_len} patches of size {patch_idx}: there are {self.seq_lens} "
                f"patches, and sizes 0 to {len(self.patch_sizes) - 1}"
            )
        shape = self.shape(self.patch_sizes[patch_idx], seq_len)
        return self.collate([self.row(sample, shape) for sample in samples], shape)

    def row(self, sample: Mapping[str, Any], shape: Shape) -> tuple[Patches, Any]:
        """The patches of a sample, and what stands beside them."""
        picture = self._transforms[shape](sample[self.image_key])
        return as_patches(picture, shape.patch_size, shape.spatial), sample[self.target_key]

    def collate(self, rows: Sequence[tuple[Patches, Any]], shape: Shape) -> dict[str, Any]:
        """A batch of such rows."""
        if self.pad_id is None:
            images, texts = collate_naflex_tuples(rows, shape.seq_len)
            return {self.image_key: images, self.target_key: texts}
        images = collate_patches([patches for patches, _ in rows], shape.seq_len)
        texts, valid = collate_variable_text([text for _, text in rows], self.pad_id)
        return {self.image_key: images, self.target_key: texts, f"{self.target_key}_valid": valid}
