"""How a loader of pairs gives its pictures and texts: padded or not, squares or patches."""

from dataclasses import dataclass
from math import ceil
from typing import Any

from PIL import Image

from diptych.compat.model_traits import ModelTraits
from diptych.compat.naflex_config import NaFlexDataConfig
from diptych.compat.open_clip_train.batches import (
    Join,
    Pairs,
    SharedEpoch,
    in_order,
    shuffled,
)
from diptych.compat.open_clip_train.naflex_steps import evaluated, patch_batches
from diptych.compat.open_clip_train.texts import columns_of, resolve_text_layout
from diptych.data import Source
from diptych.distributed import started_as


@dataclass
class DataInfo:
    """A loader, and what its order depends on."""

    dataloader: Any
    sampler: Any = None
    """Always None: the order is arithmetic, of the epoch."""
    shared_epoch: SharedEpoch | None = None

    def set_epoch(self, epoch: int) -> None:
        """The next pass is this epoch's."""
        if self.shared_epoch is not None:
            self.shared_epoch.set_value(epoch)


@dataclass(frozen=True)
class Layout:
    """How a loader gives pictures and texts."""

    args: Any
    transform: Any
    tokenizer: Any
    traits: ModelTraits | None
    patches: NaFlexDataConfig | None
    listed: bool = False

    def pairs(self, source: Source) -> Pairs:
        """In training; those of patches are pictures yet."""
        text, _ = columns_of(self.args, self.tokenizer, self.traits, self.listed)
        transform = self.transform if self.patches is None else _as_it_is
        return Pairs(source, transform, text, replaced=True)

    @property
    def join(self) -> Join:
        """Of rows to a batch."""
        return columns_of(self.args, self.tokenizer, self.traits, self.listed)[1]

    def as_it_lies(self, source: Source, samples: int | None = None) -> DataInfo:
        """All samples once; `samples`: how many the loader says these are."""
        text, join = columns_of(self.args, self.tokenizer, self.traits, self.listed)
        transform = self.transform
        if self.patches is not None:
            transform, join = evaluated(transform, self.patches, join)
        pairs = Pairs(source, transform, text, replaced=False)
        size, workers = self.args.batch_size, self.args.workers
        loader = in_order(pairs, batch_size=size, workers=workers, join=join)
        if samples is not None:
            loader.num_samples, loader.num_batches = samples, ceil(samples / size)
        return DataInfo(loader)

    def in_training(
        self, pairs: Pairs, batches: int, size: int, epoch: int, resample: bool
    ) -> DataInfo:
        """An epoch of so many batches, on so many processes."""
        shared = SharedEpoch(epoch)
        loader = shuffled(
            pairs,
            batch_size=self.args.batch_size,
            batches=batches,
            workers=self.args.workers,
            seed=vars(self.args).get("seed", 0),
            resample=resample,
            place=_place(size),
            epoch=shared,
            join=self.join,
        )
        return DataInfo(loader, shared_epoch=shared)

    def in_patches(
        self, pairs: Pairs, samples: int, size: int, epoch: int, resample: bool
    ) -> DataInfo:
        """An epoch of batches within a budget."""
        assert self.patches is not None
        budget, _ = resolve_text_layout(self.args, self.traits)
        shared = SharedEpoch(epoch)
        loader = patch_batches(
            pairs,
            self.transform,
            self.patches,
            self.args,
            text_tokens=self.tokenizer.context_length if budget else 0,
            resample=resample,
            place=_place(size),
            epoch=shared,
            join=self.join,
            samples=samples,
        )
        return DataInfo(loader, shared_epoch=shared)


def _place(size: int) -> tuple[int, int]:
    return started_as()[0] if size > 1 else 0, size


def _as_it_is(picture: Image.Image) -> Image.Image:
    return picture
