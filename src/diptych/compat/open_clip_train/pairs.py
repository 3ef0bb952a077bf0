"""Rows and batches of pairs, as training loops give and take them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class ImageText(NamedTuple):
    """A picture and its text, or many of both: `images, texts = batch` as in open_clip 3.3, and
    `batch["image"]` as on its main branch.

    >>> from diptych.compat.open_clip_train.pairs import ImageText
    >>> batch = ImageText("pictures", "ids")
    >>> batch["text"], batch[1], list(batch.keys()), "text_valid" in batch
    ('ids', 'ids', ['image', 'text'], False)
    """

    image: Any
    text: Any

    def __getitem__(self, key: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._asdict()[key] if isinstance(key, str) else tuple.__getitem__(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def keys(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self._fields


class MaskedImageText(NamedTuple):
    """The same of texts that are padded to the longest of them, and which of their ids are theirs.

    >>> from diptych.compat.open_clip_train.pairs import MaskedImageText
    >>> MaskedImageText("pictures", "ids", "mask")["text_valid"]
    'mask'
    """

    image: Any
    text: Any
    text_valid: Any

    __getitem__ = ImageText.__getitem__
    __contains__ = ImageText.__contains__
    keys = ImageText.keys


def columns(batch: Any) -> tuple[Any, Any]:
    """Pictures and texts of a batch: of a pair, or by `image` and `text`."""
    if isinstance(batch, Mapping):
        return batch["image"], batch["text"]
    images, texts, *_ = batch
    return images, texts


def named(batch: Any, keys: Sequence[str]) -> dict[str, Any]:
    """A batch by names, which it has, or which its columns get in this order."""
    if isinstance(batch, Mapping):
        return {**batch}
    if isinstance(batch, ImageText | MaskedImageText):
        return batch._asdict()
    return dict(zip(keys, batch, strict=True))
