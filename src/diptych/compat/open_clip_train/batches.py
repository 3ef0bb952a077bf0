"""From a source of ours to a torch `DataLoader` over a user's own transform and tokenizer."""

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from diptych.batch import Sample
from diptych.compat.open_clip_train.pairs import ImageText
from diptych.data import Order, Source
from diptych.data.chunks import ATTEMPTS
from diptych.errors import DataError, DataWarning
from diptych.inputs import decode

Transform = Callable[[Image.Image], Any]
Second = Callable[[Sample], Any]
"""What stands beside a picture: its caption's ids, its class."""
Join = Callable[[Sequence[ImageText]], Any]


class SharedEpoch:
    """The epoch whose order comes next, also for loader processes that go on from the last."""

    def __init__(self, epoch: int = 0):
        self._epoch = torch.tensor(epoch).share_memory_()

    def set_value(self, epoch: int) -> None:
        """Take another."""
        self._epoch.fill_(epoch)

    def get_value(self) -> int:
        """Which it is."""
        return int(self._epoch)


class Pairs(Dataset[ImageText]):
    """What a transform makes of a source's pictures, upright and RGB, and what stands beside each.

    A sample that can't be used is said in a DataWarning, and with `replaced` another one takes its
    place. Raises DataError where none of a batch can be used.
    """

    def __init__(self, source: Source, transform: Transform, second: Second, replaced: bool):
        self.source = source
        self._transform, self._second = transform, second
        self._attempts = ATTEMPTS if replaced else 1

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> ImageText:
        sample = self.source[index]
        picture = Image.fromarray(decode(sample.image).permute(1, 2, 0).numpy())
        return ImageText(image=self._transform(picture), text=self._second(sample))

    def __getitems__(self, indices: Sequence[int]) -> list[ImageText]:
        """The rows of a batch; torch asks for them so."""
        found = list[ImageText]()
        for index in indices:
            for attempt in range(self._attempts):
                tried = (index + attempt) % len(self)
                try:
                    found.append(self[tried])
                    break
                except (DataError, OSError) as error:
                    file, key = self.source.where(tried)
                    said = f"{file}, {key} is left out: {error}"
                    warnings.warn(said, DataWarning, stacklevel=2)
        if not found:
            raise DataError(f"no sample of a batch of {self.source.describe()} can be used")
        return found


class Places(Sampler[list[int]]):
    """The samples of an epoch of `batches` steps, those of this process's rows: arithmetic, as in
    `diptych.data.order`, so that what is told of the epoch is all that is shared."""

    def __init__(self, order: Order, batches: int, rows: slice, epoch: SharedEpoch):
        self._order, self._batches, self._rows, self._epoch = order, batches, rows, epoch

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        starts = [sum(self._order.sizes[:stream]) for stream in range(len(self._order.sizes))]
        first = self._epoch.get_value() * self._batches
        for step in range(first, first + self._batches):
            places = self._order.batch(step, self._rows).tolist()
            yield [starts[stream] + index for stream, _, index in places]


class Batches(DataLoader[ImageText]):
    """A `DataLoader` that says how much it gives."""

    def __init__(self, pairs: Dataset[Any], workers: int, samples: int, join: Join, **options: Any):
        # Forked where the system is Linux: a user's lambdas can't be pickled.
        fork = "fork" if workers and sys.platform == "linux" else None
        super().__init__(
            pairs,
            num_workers=workers,
            collate_fn=join,
            persistent_workers=workers > 0,
            multiprocessing_context=fork,
            **options,
        )
        self.num_samples = samples
        """Of an epoch, over all processes."""
        self.num_batches = len(self)
        """Of an epoch, of this process."""

    def __iter__(self) -> Any:
        # Python 3.12 warns of forking beside threads; `data/loader.py` says why it's safe.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*multi-threaded, use of fork", DeprecationWarning)
            return super().__iter__()


def shuffled(
    pairs: Pairs,
    *,
    batch_size: int,
    batches: int,
    workers: int,
    seed: int,
    resample: bool,
    place: tuple[int, int],
    epoch: SharedEpoch,
    join: Join,
) -> Batches:
    """The batches of an epoch in training; `place`: this process's rank, and how many there are;
    `join`: of rows to a batch."""
    source, (rank, size) = pairs.source, place
    order = Order(
        sizes=tuple(map(len, source.streams)),
        weights=source.weights,
        batch_size=batch_size * size,
        seed=seed,
        resample=resample,
    )
    rows = slice(rank * batch_size, (rank + 1) * batch_size)
    places = Places(order, batches, rows, epoch)
    return Batches(pairs, workers, batches * batch_size * size, join, batch_sampler=places)


def collate(rows: Sequence[ImageText]) -> ImageText:
    """Columns of a batch: tensors and numbers are stacked, anything else is a list."""
    images, texts = [row["image"] for row in rows], [row["text"] for row in rows]
    return ImageText(image=column(images), text=column(texts))


def in_order(pairs: Pairs, *, batch_size: int, workers: int, join: Join = collate) -> Batches:
    """All samples once, as they lie; the last batch may be smaller."""
    return Batches(pairs, workers, len(pairs), join, batch_size=batch_size)


def column(values: list[Any]) -> Any:
    """Of a batch: tensors and numbers are stacked, anything else is a list."""
    if isinstance(values[0], Tensor):
        return torch.stack(values)
    return torch.tensor(values) if isinstance(values[0], int) else values


def batches_of(samples: int, batch_size: int, workers: int, floor: bool = False) -> int:
    """How many batches open_clip takes for an epoch of shards: rounded up (or down) twice, to whole
    ones and to as many for each loader process.

    >>> from diptych.compat.open_clip_train.batches import batches_of
    >>> batches_of(1000, 64, workers=6), batches_of(1000, 64, workers=6, floor=True)
    (18, 12)
    """
    rounded = math.floor if floor else math.ceil
    workers = max(1, workers)
    return rounded(rounded(samples / batch_size) / workers) * workers
