"""Of how many pictures each batch of an epoch is, and of which patches."""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from diptych.compat.naflex_config import NaFlexDataConfig
from diptych.errors import ConfigError


class Shape(NamedTuple):
    """Of a batch's pictures: the size of a patch, and how many patches at most."""

    patch_size: tuple[int, int]
    seq_len: int


class NaFlexBatchScheduler:
    """Of how many pictures each batch of an epoch is, and of which shape: drawn once by `seed`, in
    another order in each epoch.

    Exactly one of `train_num_samples` and `train_num_tokens` says how long an epoch is, over all
    processes. Raises ConfigError for both or none, and for probabilities that don't fit.
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
        self.seed, self.shuffle = seed, shuffle
        self._sizes, self._size_odds = list(patch_sizes), patch_size_probs
        self._budget = (max_tokens_per_batch, per_row_text_tokens, batch_divisor)
        total = train_num_samples if train_num_tokens is None else train_num_tokens
        assert total is not None
        if total < 1:
            raise ConfigError(f"an epoch has 1 sample or token at the least, and not {total}")
        self._batches = self._drawn(math.ceil(total / world_size), train_num_tokens is not None)

    def rows(self, seq_len: int) -> int:
        """How many pictures of so many patches the budget allows."""
        budget, text, divisor = self._budget
        most = budget // (seq_len + text)
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
            found.append((Shape(size, length), rows))
            left -= rows * length if tokens else rows
        return found
