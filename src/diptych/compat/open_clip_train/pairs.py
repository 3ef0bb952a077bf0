"""Rows and batches of pairs, as training loops give and take them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class ImageText(dict[Any, Any]):
    """A picture and its text, or many of both, by name: `image`, `text`, and of texts that are
    padded to the longest of them `text_valid`, which of their ids are theirs.

    A dict, as on open_clip's main branch, that is looped over and counted off as the tuples of
    open_clip 3.3 are: `images, texts = batch`.

    >>> from diptych.compat.open_clip_train.pairs import ImageText
    >>> batch = ImageText(image="pictures", text="ids")
    >>> images, texts = batch
    >>> texts, batch["text"], batch[1], list(batch.keys()), "text_valid" in batch
    ('ids', 'ids', 'ids', ['image', 'text'], False)
    """

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]


def columns(batch: Any) -> tuple[Any, Any]:
    """Pictures and texts of a batch: of a pair, or by `image` and `text`."""
    if isinstance(batch, Mapping):
        return batch["image"], batch["text"]
    images, texts, *_ = batch
    return images, texts


def named(batch: Any, keys: Sequence[str]) -> dict[str, Any]:
    """A batch by names, which it has, or which its columns get in this order."""
    return {**batch} if isinstance(batch, Mapping) else dict(zip(keys, batch, strict=True))
