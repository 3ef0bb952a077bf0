"""From a sample to the views of it that an objective asks for, and from many to a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, assert_never

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from diptych.batch import ImageView, Sample, Views
from diptych.config import DataConfig
from diptych.errors import DataError
from diptych.inputs import Preprocess, Tokenizer, TrainCrop, decode
from diptych.inputs.masking import IGNORE_INDEX, MaskTokens
from diptych.inputs.room import room
from diptych.inputs.strong import StrongView
from diptych.inputs.text_augment import AugmentText
from diptych.inputs.tokenizer import pad_rows

_SHOWN = 60
"""Characters of a caption in a message."""


class SampleViews(NamedTuple):
    """One sample's views. `changes`: for each crop what of its augmentation is still to be done on
    the device (`StrongView.draw`), or None."""

    images: list[UInt8[Tensor, "3 height width"]]
    changes: list[Float[Tensor, "7"] | None]
    texts: list[list[int]]
    mlm_labels: list[int] | None
    truncated: str = ""
    """The caption's beginning, if it is longer than the context."""


class BatchViews(NamedTuple):
    """The views of many samples, as a loader's worker hands them over: one tensor per view."""

    images: tuple[UInt8[Tensor, "batch 3 height width"], ...]
    changes: tuple[Float[Tensor, "batch 7"] | None, ...]
    texts: tuple[Int[Tensor, "batch length"], ...]
    mlm_labels: Int[Tensor, "batch length"] | None
    lengths: tuple[Int[Tensor, " batch"], ...]
    """Of each text view: its captions' ids."""
    truncated: tuple[str, ...] = ()
    """The beginnings of the captions that are longer than the context."""


@dataclass(frozen=True)
class ViewTransform:
    """Makes the views of one sample: a function of the sample and the generator alone. Made by
    `ViewTransform.from_config`."""

    views: Views
    plain: TrainCrop
    strong: StrongView
    strong_on_device: bool
    tokenizer: Tokenizer
    augment: AugmentText | None
    mask: MaskTokens | None

    @classmethod
    def from_config(
        cls, views: Views, config: DataConfig, preprocess: Preprocess, tokenizer: Tokenizer
    ) -> "ViewTransform":
        """Raises ConfigError where the tokenizer or the synonyms can't give what `views` ask
        for."""
        size, interpolation = preprocess.size, preprocess.config.interpolation
        return cls(
            views=views,
            plain=TrainCrop(config.augment, size, interpolation),
            strong=StrongView(config.strong, size, interpolation),
            strong_on_device=config.strong_on == "device",
            tokenizer=tokenizer,
            augment=AugmentText(config.words) if "augmented" in views.text else None,
            mask=MaskTokens(config.words, tokenizer) if "masked" in views.text else None,
        )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> SampleViews:
        """The sample's views, all of one of its captions. Raises DataError for a bad sample: one
        without a caption, or with a picture that can't be decoded."""
        if not sample.captions:
            raise DataError("no caption")
        # The crops come before the caption: so a plain crop is the same whatever the objective
        # asks of the text.
        with room.held():
            pixels = decode(sample.image)
            crops = [self._image_view(view, pixels, rng) for view in self.views.image]
            del pixels
        caption = sample.captions[rng.integers(len(sample.captions))]
        texts, mlm_labels = self._text_views(caption, rng)
        images, changes = [image for image, _ in crops], [change for _, change in crops]
        cut = any(self.tokenizer.truncates(caption, ids) for ids in texts)
        return SampleViews(images, changes, texts, mlm_labels, caption[:_SHOWN] if cut else "")

    def _image_view(
        self, view: ImageView, pixels: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        match view:
            case "plain":
                return self.plain(pixels, rng), None
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
        labels = [sample.mlm_labels for sample in samples if sample.mlm_labels is not None]
        return BatchViews(
            images=tuple(images),
            changes=tuple(changes),
            texts=tuple(texts),
            mlm_labels=pad_rows(labels, IGNORE_INDEX, length) if labels else None,
            lengths=tuple(lengths),
            truncated=tuple(sample.truncated for sample in samples if sample.truncated),
        )
