"""From a source of ours to batches of patches: each step of an epoch has its own shape, and takes
as many of the next samples as the budget allows."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from PIL import Image
from torch.utils.data import Dataset, Sampler

from diptych.compat.naflex_config import NaFlexDataConfig
from diptych.compat.open_clip_train.batches import Batches, Join, Pairs, SharedEpoch
from diptych.compat.open_clip_train.naflex_model import create_naflex_eval_transform
from diptych.compat.open_clip_train.naflex_patches import as_patches, collate_patches
from diptych.compat.open_clip_train.naflex_schedule import Schedule, Shape
from diptych.compat.open_clip_train.pairs import ImageText
from diptych.data import Order
from diptych.errors import ConfigError

Factory = Callable[..., Callable[[Image.Image], Any]]


class JoinPatches:
    """Rows of pictures as tensors or patches, and texts, to a batch of patches; `join`: of the
    texts."""

    def __init__(self, join: Join, shape: Shape):
        self._join, self._shape = join, shape

    def __call__(self, rows: Sequence[ImageText]) -> Any:
        """The batch."""
        size, seq_len, spatial = self._shape
        pictures = [as_patches(row["image"], size, spatial) for row in rows]
        texts = self._join([ImageText(image=0, text=row["text"]) for row in rows])
        patches = collate_patches(pictures, seq_len)
        return ImageText({**texts, "image": patches})


class _Epoch(NamedTuple):
    number: int
    batches: list[tuple[Shape, int]]
    before: list[int]
    """Pictures that stand before each batch, and all of the epoch."""


class PatchSteps(Dataset[Any]):
    """Batch by batch, by (epoch, step): the transform of each knows its shape."""

    def __init__(
        self,
        pairs: Pairs,
        factory: Factory,
        scheduler: Schedule,
        order: Order,
        place: tuple[int, int],
        workers: int,
        join: Join,
    ):
        """`pairs`: pictures as they are; `place`: this process's rank, and how many there are."""
        self._pairs, self._factory, self._join = pairs, factory, join
        self._scheduler, self._order, self._place = scheduler, order, place
        self._workers = max(1, workers)
        self._starts = list(accumulate(order.sizes, initial=0))
        self._drawn = self._draw(0)

    def schedule(self, epoch: int) -> list[tuple[Shape, int]]:
        """(shape, pictures) of each batch of an epoch."""
        return self._of(epoch).batches

    def _of(self, epoch: int) -> "_Epoch":
        # It is drawn as a whole: once in each loader process, and not for each batch.
        if self._drawn.number != epoch:
            self._drawn = self._draw(epoch)
        return self._drawn

    def _draw(self, epoch: int) -> "_Epoch":
        batches = self._scheduler.epoch_schedule(epoch, self._workers)
        return _Epoch(epoch, batches, [*accumulate((rows for _, rows in batches), initial=0)])

    def __getitem__(self, place: tuple[int, int]) -> Any:
        (epoch, step), (rank, size) = place, self._place
        drawn = self._of(epoch)
        shape, rows = drawn.batches[step]
        # Samples are counted over all epochs and processes; each process takes neighbours.
        first = (epoch * drawn.before[-1] + drawn.before[step]) * size + rank * rows
        places = [self._order.batch(number).tolist()[0] for number in range(first, first + rows)]
        indices = [self._starts[stream] + index for stream, _, index in places]
        transform = self._factory(max_seq_len=shape.seq_len, patch_size=shape.patch_size)
        found = self._pairs.__getitems__(indices)
        return JoinPatches(self._join, shape)(
            [ImageText({**row, "image": transform(row["image"])}) for row in found]
        )


class Steps(Sampler[tuple[int, int]]):
    """(epoch, step) of each batch: loader processes are told the epoch so."""

    def __init__(self, count: int, epoch: SharedEpoch):
        self._count, self._epoch = count, epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self._epoch.get_value()
        return ((epoch, step) for step in range(self._count))


def patch_batches(
    pairs: Pairs,
    factory: Any,
    config: NaFlexDataConfig,
    args: Any,
    *,
    text_tokens: int,
    resample: bool,
    place: tuple[int, int],
    epoch: SharedEpoch,
    join: Join,
    samples: int | None,
) -> Batches:
    """A loader of an epoch in training. `text_tokens`: of a caption, where the budget counts them;
    `samples`: of the epoch, where the configuration has no number of patches. Raises ConfigError
    for a transform that isn't a factory of them."""
    if not getattr(factory, "is_naflex_transform_factory", False):
        raise ConfigError(
            "NaFlex training needs a factory of transforms, called with max_seq_len and patch_size"
        )
    said, source = vars(args), pairs.source
    scheduler = Schedule(
        train_num_samples=None if config.train_num_image_tokens else samples,
        train_num_tokens=config.train_num_image_tokens,
        patch_sizes=config.train_patch_sizes,
        patch_size_probs=config.train_patch_size_probs,
        seq_lens=config.train_seq_lens,
        seq_len_choice_probs=config.train_seq_len_probs,
        max_tokens_per_batch=config.resolve_max_tokens_per_batch(args.batch_size, text_tokens),
        seed=said.get("seed", 0),
        world_size=place[1],
        batch_divisor=config.batch_divisor,
        per_row_text_tokens=text_tokens,
        spatial=[size for size in config.train_patch_sizes if config.is_spatial(size)],
    )
    order = Order(
        sizes=tuple(map(len, source.streams)),
        weights=source.weights,
        batch_size=1,
        seed=said.get("seed", 0),
        resample=resample,
    )
    steps = PatchSteps(pairs, factory, scheduler, order, place, args.workers, join)
    counts = [count for _, count in steps.schedule(0)]
    numbers = Steps(len(counts), epoch)
    rows = sum(counts) * place[1]
    return Batches(steps, args.workers, rows, _whole, batch_size=None, sampler=numbers)


def evaluated(factory: Any, config: NaFlexDataConfig, join: Join) -> tuple[Any, Join]:
    """The transform and the joining of rows where a model is measured. Raises ConfigError for a
    transform that isn't a factory of them."""
    transform, seq_len, size = create_naflex_eval_transform(factory, config)
    return transform, JoinPatches(join, Shape(size, seq_len, config.eval_is_spatial))


def _whole(batch: Any) -> Any:
    return batch
