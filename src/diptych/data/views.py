"""From a sample to the views of it that an objective asks for, and from many to a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from diptych.batch import Sample, Views
from diptych.config import DataConfig
from diptych.errors import DataError
from diptych.inputs import Preprocess, Tokenizer, TrainCrop, decode
from diptych.inputs.strong import StrongView
from diptych.inputs.tokenizer import pad_rows
from diptych.inputs.words import NOT_HIDDEN, AugmentWords, HideWords


class Seen(NamedTuple):
    """One sample's views. `changes`: for each picture what is still to be done to it on the device,
    or None."""

    images: list[UInt8[Tensor, "3 height width"]]
    changes: list[Float[Tensor, "7"] | None]
    texts: list[list[int]]
    hidden: list[int] | None


class SeenBatch(NamedTuple):
    """The views of many samples, as a loader's worker hands them over."""

    images: tuple[UInt8[Tensor, "batch 3 height width"], ...]
    changes: tuple[Float[Tensor, "batch 7"] | None, ...]
    texts: tuple[Int[Tensor, "batch length"], ...]
    hidden: Int[Tensor, "batch length"] | None


@dataclass(frozen=True)
class Viewer:
    """Makes the views of one sample: a function of the sample and the generator. Made by
    `Viewer.of`."""

    views: Views
    plain: TrainCrop
    strong: StrongView
    strong_on_device: bool
    tokenizer: Tokenizer
    augment: AugmentWords | None
    hide: HideWords | None

    @classmethod
    def of(
        cls, views: Views, config: DataConfig, preprocess: Preprocess, tokenizer: Tokenizer
    ) -> "Viewer":
        """Raises ConfigError where the tokenizer or the synonyms can't give what `views` ask
        for."""
        size, interpolation = preprocess.size, preprocess.config.interpolation
        return cls(
            views=views,
            plain=TrainCrop(config.augment, size, interpolation),
            strong=StrongView(config.strong, size, interpolation),
            strong_on_device=config.strong_on == "device",
            tokenizer=tokenizer,
            augment=AugmentWords(config.words) if "augmented" in views.text else None,
            hide=HideWords(config.words, tokenizer) if "masked" in views.text else None,
        )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Seen:
        """The sample's views, of one of its captions. Raises DataError if it has none or its
        picture is broken."""
        if not sample.captions:
            raise DataError("no caption")
        pixels = decode(sample.image)
        pictures = [self._picture(view, pixels, rng) for view in self.views.image]
        caption = sample.captions[rng.integers(len(sample.captions))]
        texts, hidden = [], None
        for view in self.views.text:
            if view == "augmented":
                assert self.augment is not None
                texts.append(self.tokenizer.encode(self.augment(caption, rng)))
            elif view == "masked":
                assert self.hide is not None
                ids, hidden = self.hide(self.tokenizer.encode(caption), rng)
                texts.append(ids)
            else:
                texts.append(self.tokenizer.encode(caption))
        return Seen(
            [image for image, _ in pictures], [change for _, change in pictures], texts, hidden
        )

    def _picture(
        self, view: str, pixels: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        if view == "plain":
            return self.plain(pixels, rng), None
        crop, change = self.strong.crop(pixels, rng), self.strong.draw(rng)
        return (
            (crop, change)
            if self.strong_on_device
            else (self.strong.apply(crop[None], change[None])[0], None)
        )

    def collate(self, samples: Sequence[Seen]) -> SeenBatch:
        """The samples in one batch; captions padded to the longest, or to the context's length if
        the views say so."""
        length = self.tokenizer.context_length if self.views.whole_length else None
        texts = [
            self.tokenizer.pad(rows, length)
            for rows in zip(*(sample.texts for sample in samples), strict=True)
        ]
        labels = [sample.hidden for sample in samples if sample.hidden is not None]
        changes = zip(*(sample.changes for sample in samples), strict=True)
        return SeenBatch(
            images=tuple(
                torch.stack(images)
                for images in zip(*(sample.images for sample in samples), strict=True)
            ),
            changes=tuple(torch.stack(each) if each[0] is not None else None for each in changes),
            texts=tuple(texts),
            hidden=pad_rows(labels, NOT_HIDDEN, length) if labels else None,
        )
