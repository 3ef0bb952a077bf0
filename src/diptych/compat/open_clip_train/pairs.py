"""Batches of pairs as training loops give them."""

from collections.abc import Mapping
from typing import Any


def columns(batch: Any) -> tuple[Any, Any]:
    """Pictures and texts of a batch: of a pair, or by `image` and `text`."""
    if isinstance(batch, Mapping):
        return batch["image"], batch["text"]
    images, texts = batch
    return images, texts
