"""A stage of pipelines that brings texts of like lengths together, so that little is padded.

https://github.com/mlfoundations/open_clip, src/open_clip_train/naflex_data.py
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from torch.utils.data import get_worker_info

from diptych.compat.open_clip_train.batches import SharedEpoch
from diptych.errors import ConfigError

Length = Callable[[Mapping[str, Any]], int]


class CaptionLength:
    """How many ids a sample has at `key`; 0 where it has nothing there.

    >>> from diptych.compat.open_clip_train.naflex_data import CaptionLength
    >>> CaptionLength()({"text": [49406, 320, 49407]})
    3
    """

    def __init__(self, key: str = "text"):
        self.key = key

    def __call__(self, sample: Mapping[str, Any]) -> int:
        return len(sample.get(self.key, ()))


class LengthBucketer:
    """All samples once, in another order: of each `pool` of them the lengths are sorted, and cut
    into runs of `chunk`, which come in an order of the seed and the epoch.

    A length is the sum of `length_fns`, without any the caption's. Raises ConfigError for a pool or
    a chunk below 1.

    >>> from diptych.compat.open_clip_train.naflex_data import LengthBucketer
    >>> samples = [{"text": "x" * length} for length in (5, 2, 6, 1)]
    >>> [len(sample["text"]) for sample in LengthBucketer(chunk=2)(samples)]
    [5, 6, 1, 2]
    """

    def __init__(
        self,
        length_fns: Sequence[Length] | None = None,
        pool: int = 2048,
        chunk: int = 128,
        seed: int = 42,
        epoch: int | SharedEpoch = -1,
    ):
        if min(pool, chunk) < 1:
            raise ConfigError(f"a pool and a chunk are 1 or more, and not {pool} and {chunk}")
        self.length_fns = list(length_fns or [CaptionLength()])
        self.pool, self.chunk, self.seed, self.epoch = pool, chunk, seed, epoch

    def __call__(self, src: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """The samples that come to this loader process."""
        epoch = self.epoch.get_value() if isinstance(self.epoch, SharedEpoch) else self.epoch
        worker, samples = get_worker_info(), iter(src)
        rng = random.Random(f"{self.seed} {epoch} {0 if worker is None else worker.id}")
        while pool := sorted(islice(samples, self.pool), key=self._length):
            runs = [pool[start : start + self.chunk] for start in range(0, len(pool), self.chunk)]
            rng.shuffle(runs)
            yield from chain.from_iterable(runs)

    def _length(self, sample: Mapping[str, Any]) -> int:
        return sum(length(sample) for length in self.length_fns)
