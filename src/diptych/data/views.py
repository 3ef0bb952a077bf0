"""From a sample to the views of it that an objective asks for, and from many to a batch."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple, assert_never

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from diptych.batch import ImageView, Sample, Taught, Views
from diptych.config import DataConfig
from diptych.data.block_mask import AlternatingMask, BlockMask
from diptych.data.budgets import draw_budget
from diptych.errors import DataError
from diptych.inputs import Preprocess, Tokenizer, TrainCrop, decode
from diptych.inputs.augment import NativeCrop, crop_of
from diptych.inputs.masking import IGNORE_INDEX, MaskTokens
from diptych.inputs.room import room
from diptych.inputs.strong import StrongView
from diptych.inputs.text_augment import AugmentText
from diptych.inputs.tokenizer import pad_rows

_SHOWN = 60
"""Characters of a caption in a message."""


class Reader(NamedTuple):
    """How a model beside the one that is trained takes the same pair: a teacher that is asked."""

    preprocess: Preprocess
    tokenizer: Tokenizer


class Drawn(NamedTuple):
    """By number, which of a picture's crops was drawn (0 where each is a new one), and which of its
    captions."""

    crop: int
    caption: int


class SampleViews(NamedTuple):
    """One sample's views. `changes`: for each crop what of its augmentation is still to be done on
    the device (`StrongView.draw`), or None."""

    images: list[UInt8[Tensor, "3 height width"]]
    changes: list[Float[Tensor, "7"] | None]
    texts: list[list[int]]
    mlm_labels: list[int] | None
    drawn: Drawn
    shown: list[tuple[UInt8[Tensor, "3 _ _"], list[int]]]
    """To each reader: the plain crop, and the caption's ids."""
    truncated: str = ""
    """The caption's beginning, if it is longer than the context."""
    hidden: Bool[np.ndarray, " patches"] | None = None
    """Which of the picture's patches are hidden."""


class BatchViews(NamedTuple):
    """The views of many samples, as a loader's worker hands them over: one tensor per view."""

    images: tuple[UInt8[Tensor, "batch 3 height width"], ...]
    changes: tuple[Float[Tensor, "batch 7"] | None, ...]
    texts: tuple[Int[Tensor, "batch length"], ...]
    mlm_labels: Int[Tensor, "batch length"] | None
    lengths: tuple[Int[Tensor, " batch"], ...]
    """Of each text view: its captions' ids."""
    taught: tuple[Taught, ...] = ()
    truncated: tuple[str, ...] = ()
    """The beginnings of the captions that are longer than the context."""
    hidden: Bool[Tensor, "batch patches"] | None = None


@dataclass(frozen=True)
class ViewTransform:
    """Makes the views of one sample: a function of the sample, its place in the source and the
    generator alone. Made by `ViewTransform.from_config`."""

    views: Views
    plain: TrainCrop
    strong: StrongView
    strong_on_device: bool
    tokenizer: Tokenizer
    augment: AugmentText | None
    mask: MaskTokens | None
    hide: BlockMask | AlternatingMask | None = None
    readers: tuple[Reader, ...] = ()
    budgets: tuple[int, ...] = ()
    """Of pictures of their own aspect: how many patches they may have, of which each step has
    one."""

    @classmethod
    def from_config(
        cls,
        views: Views,
        config: DataConfig,
        preprocess: Preprocess,
        tokenizer: Tokenizer,
        readers: Sequence[Reader] = (),
    ) -> "ViewTransform":
        """Raises ConfigError where the tokenizer or the synonyms can't give what `views` ask
        for."""
        how, size = preprocess.config, preprocess.size
        interpolation = how.interpolation
        budgets = (config.patches or (how.patches,)) if how.resize == "native" else ()
        if budgets:
            how = replace(how, patches=max(budgets))
        plain = crop_of(config.augment, how, size)
        return cls(
            views=views,
            plain=plain,
            strong=StrongView(config.strong, size, interpolation),
            strong_on_device=config.strong_on == "device",
            tokenizer=tokenizer,
            augment=AugmentText(config.words) if "augmented" in views.text else None,
            mask=MaskTokens(config.words, tokenizer) if "masked" in views.text else None,
            hide=BlockMask(views.hidden) if views.hidden is not None else None,
            readers=tuple(readers),
            budgets=budgets,
        )

    def at(self, seed: int, step: int) -> "ViewTransform":
        """As it is in this step of a run."""
        if not isinstance(self.plain, NativeCrop):
            return self
        drawn = draw_budget(self.budgets, seed, step)
        return replace(self, plain=replace(self.plain, patches=drawn))

    def row_bytes(self, most: int) -> int:
        """What a sample's views take in a batch, with texts of up to `most` ids."""
        ids = 8 * min(self.tokenizer.context_length, most)
        texts = len(self.views.text) * (ids + 8) + ids * ("masked" in self.views.text)
        shown = sum(
            3 * preprocess.size**2 + 8 * tokenizer.context_length
            for preprocess, tokenizer in self.readers
        )
        hidden = self.views.hidden.side**2 if self.views.hidden is not None else 0
        pictures = len(self.views.image) * (self.plain.bytes + 28)
        return pictures + hidden + texts + shown + 8

    def __call__(self, sample: Sample, rng: np.random.Generator, place: int = 0) -> SampleViews:
        """The views of the sample at `place` of the whole source, all of one of its captions.
        Raises DataError for a bad sample: one without a caption, where one is wanted, or with a
        picture that can't be decoded."""
        if self.views.text and not sample.captions:
            raise DataError("no caption")
        # Numbered crops are drawn once for all, each with a generator of its own.
        count = self.plain.config.crops
        number = int(rng.integers(count)) if count else 0
        plain = self.plain.numbered(place, number) if count else rng
        # The crops come before the caption: so a plain crop is the same whatever the objective
        # asks of the text.
        with room.held():
            pixels = decode(sample.image)
            squares = self._squares(pixels, plain)
            crops = [self._image_view(view, pixels, plain, rng) for view in self.views.image]
            del pixels
        which = int(rng.integers(len(sample.captions))) if self.views.text else 0
        caption = sample.captions[which] if self.views.text else ""
        texts, mlm_labels = self._text_views(caption, rng)
        # Last: what is drawn before is the same with and without it.
        hidden = self.hide(rng) if self.hide is not None else None
        images, changes = [image for image, _ in crops], [change for _, change in crops]
        read = (reader.tokenizer.encode(caption) for reader in self.readers)
        cut = any(self.tokenizer.truncates(caption, ids) for ids in texts)
        return SampleViews(
            images=images,
            changes=changes,
            texts=texts,
            mlm_labels=mlm_labels,
            drawn=Drawn(number, which),
            shown=list(zip(squares, read, strict=True)),
            truncated=caption[:_SHOWN] if cut else "",
            hidden=hidden,
        )

    def _squares(self, pixels: Tensor, rng: np.random.Generator) -> list[UInt8[Tensor, "3 _ _"]]:
        """The first plain crop, as each reader takes it."""
        found, sizes = list[Tensor](), dict[tuple[int, str], Tensor]()
        for preprocess, _ in self.readers:
            size, interpolation = preprocess.size, preprocess.config.interpolation
            if (size, interpolation) not in sizes:
                # The same numbers are drawn for every size, and for the model that is trained.
                own = self.plain.own_aspect
                crop = TrainCrop(self.plain.config, size, interpolation, own)
                sizes[size, interpolation] = crop(pixels, deepcopy(rng))
            found.append(sizes[size, interpolation])
        return found

    def _image_view(
        self, view: ImageView, pixels: Tensor, plain: np.random.Generator, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        match view:
            case "plain":
                return self.plain(pixels, plain), None
            case "strong":
                crop, change = self.strong.crop(pixels, rng), self.strong.draw(rng)
                if self.strong_on_device:
                    return crop, change
                return self.strong.apply(crop[None], change[None])[0], None
            case _:
                assert_never(view)

    def _text_views(
        self, caption: str, rng: np.random.Generator
    ) -> tuple[list[list[int]], list[int] | None]:
        """The ids of each text view, and the labels of the masked one."""
        texts, mlm_labels = list[list[int]](), None
        for view in self.views.text:
            match view:
                case "plain":
                    texts.append(self.tokenizer.encode(caption))
                case "augmented":
                    assert self.augment is not None
                    texts.append(self.tokenizer.encode(self.augment(caption, rng)))
                case "masked":
                    assert self.mask is not None
                    ids, mlm_labels = self.mask(self.tokenizer.encode(caption), rng)
                    texts.append(ids)
                case _:
                    assert_never(view)
        return texts, mlm_labels

    def collate(self, samples: Sequence[SampleViews]) -> BatchViews:
        """The samples in one batch; captions padded to the longest, or to the context's length if
        the views or the tokenizer say so."""
        whole = self.views.whole_length or self.tokenizer.whole_length
        length = self.tokenizer.context_length if whole else None
        images, changes = list[Tensor](), list[Tensor | None]()
        texts, lengths = list[Tensor](), list[Tensor]()
        for view in range(len(self.views.image)):
            images.append(torch.stack([sample.images[view] for sample in samples]))
            left = [change for sample in samples if (change := sample.changes[view]) is not None]
            changes.append(torch.stack(left) if left else None)
        for view in range(len(self.views.text)):
            rows = [sample.texts[view] for sample in samples]
            texts.append(self.tokenizer.pad(rows, length))
            lengths.append(torch.tensor(list(map(len, rows))))
        hidden = [sample.hidden for sample in samples if sample.hidden is not None]
        labels = [sample.mlm_labels for sample in samples if sample.mlm_labels is not None]
        return BatchViews(
            images=tuple(images),
            changes=tuple(changes),
            texts=tuple(texts),
            mlm_labels=pad_rows(labels, IGNORE_INDEX, length) if labels else None,
            lengths=tuple(lengths),
            taught=tuple(self._shown(number, samples) for number in range(len(self.readers))),
            truncated=tuple(sample.truncated for sample in samples if sample.truncated),
            hidden=torch.from_numpy(np.stack(hidden)) if hidden else None,
        )

    def _shown(self, reader: int, samples: Sequence[SampleViews]) -> Taught:
        """To a reader. Its texts fill its context, so that what it makes of one doesn't depend on
        those beside it."""
        squares, rows = zip(*(sample.shown[reader] for sample in samples), strict=True)
        tokenizer = self.readers[reader].tokenizer
        return Taught(torch.stack(squares), tokenizer.pad(rows, tokenizer.context_length))
