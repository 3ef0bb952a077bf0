"""Stages of webdataset's pipelines that open_clip_train adds: shards, each as often as its weight
says, and a shuffle that knows the epoch. They need no webdataset; its `DataPipeline` takes them.

https://github.com/mlfoundations/open_clip, src/open_clip_train/data.py
"""

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from diptych.compat.open_clip_train.batches import SharedEpoch
from diptych.compat.open_clip_train.data_flags import factors_of
from diptych.data.braces import expand_braces
from diptych.errors import ConfigError


def expand_urls(
    urls: str | Sequence[str], weights: Any = None
) -> tuple[list[str], list[float] | None]:
    """Shards one by one, and a weight for each: `weights` has one for each `::`-joined part, joined
    alike. Raises ConfigError where there are more or fewer.

    >>> from diptych.compat.open_clip_train.data import expand_urls
    >>> expand_urls("a/{0..1}.tar::b.tar", "1::2")
    (['a/0.tar', 'a/1.tar', 'b.tar'], [1.0, 1.0, 2.0])
    """
    if not isinstance(urls, str):
        return list(urls), weights
    parts = urls.split("::")
    each = [1.0] * len(parts) if weights is None else factors_of(weights, len(parts))
    found, of_each = list[str](), list[float]()
    for part, weight in zip(parts, each, strict=True):
        names = expand_braces(part)
        found += names
        of_each += [weight] * len(names)
    return found, None if weights is None else of_each


def pytorch_worker_seed(increment: int = 0) -> int:
    """The seed of this loader process, so many loops of the loader later; without one torch's."""
    worker = get_worker_info()
    if worker is None:
        return torch.initial_seed() + increment
    # Loops don't meet: each takes as many seeds as there are processes.
    return worker.seed + increment * worker.num_workers


class ResampledShards2(IterableDataset[dict[str, str]]):
    """`{"url": shard}` of shards that are drawn with replacement, as often as `weights` say.

    `epoch`: a `SharedEpoch`, or the one before the first, and each pass is the next. With
    `deterministic` a pass draws what its epoch and `worker_seed()` say, without which it is the
    loader process's seed. Raises ConfigError for other than one weight for each shard.

    >>> from diptych.compat.open_clip_train.data import ResampledShards2
    >>> shards = ResampledShards2("a.tar::b.tar", "1::0", nshards=2)
    >>> list(shards)
    [{'url': 'a.tar'}, {'url': 'a.tar'}]
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        weights: Any = None,
        nshards: int = sys.maxsize,
        worker_seed: Callable[[], int] | None = None,
        deterministic: bool = False,
        epoch: int | SharedEpoch = -1,
    ):
        super().__init__()
        self.urls, self.weights = expand_urls(urls, weights)
        if self.weights is not None and len(self.weights) != len(self.urls):
            raise ConfigError(
                f"there are {len(self.weights)} weights for {len(self.urls)} shards; give one each"
            )
        self.nshards, self.worker_seed = nshards, worker_seed
        self.deterministic, self.epoch = deterministic, epoch
        self.rng = random.Random()

    def __iter__(self) -> Iterator[dict[str, str]]:
        epoch = self.epoch = _next(self.epoch)
        number = epoch.get_value() if isinstance(epoch, SharedEpoch) else epoch
        if self.deterministic:
            own = self.worker_seed
            self.rng.seed(pytorch_worker_seed(number) if own is None else own() + number)
        for _ in range(self.nshards):
            yield {"url": self.rng.choices(self.urls, self.weights)[0]}


class detshuffle2:
    """A stage that shuffles what comes through it within `bufsize` items, of which it waits for
    `initial`: by `seed` and the epoch, so that all processes shuffle alike; a `seed` below 0 means
    the loader process's own. `epoch` as `ResampledShards2`'s.

    >>> from diptych.compat.open_clip_train.data import detshuffle2
    >>> stage = detshuffle2(bufsize=3, initial=3, epoch=-1)
    >>> sorted(stage(range(5)))
    [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        bufsize: int = 1000,
        initial: int = 100,
        seed: int = 0,
        epoch: int | SharedEpoch = -1,
    ):
        self.bufsize, self.initial = bufsize, min(initial, bufsize)
        self.seed, self.epoch = seed, epoch

    def __call__(self, src: Iterable[Any]) -> Iterator[Any]:
        """Shuffle."""
        epoch = self.epoch = _next(self.epoch)
        number = epoch.get_value() if isinstance(epoch, SharedEpoch) else epoch
        own = self.seed < 0
        rng = random.Random(pytorch_worker_seed(number) if own else self.seed + number)
        return self._shuffled(iter(src), rng)

    run = __call__
    """webdataset's name for it."""

    def _shuffled(self, items: Iterator[Any], rng: random.Random) -> Iterator[Any]:
        held = list[Any]()
        for item in items:
            held.append(item)
            if len(held) < self.bufsize:
                held += islice(items, 1)
            if len(held) >= self.initial:
                yield _taken(held, rng)
        while held:
            yield _taken(held, rng)


def _next(epoch: int | SharedEpoch) -> int | SharedEpoch:
    return epoch if isinstance(epoch, SharedEpoch) else epoch + 1


def _taken(held: list[Any], rng: random.Random) -> Any:
    """One of them, whose place the last takes."""
    place = rng.randrange(len(held))
    held[place], held[-1] = held[-1], held[place]
    return held.pop()
