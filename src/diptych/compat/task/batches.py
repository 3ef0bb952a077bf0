"""What a loop does with batches, whatever is in them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def moved(batch: Any, device: torch.device | None, dtype: torch.dtype | None) -> Any:
    """A batch, or a part of one, on the device, its real numbers as `dtype` (None: as they are)."""
    if isinstance(batch, Mapping):
        return {name: moved(each, device, dtype) for name, each in batch.items()}
    if not isinstance(batch, Tensor):
        return batch
    return batch.to(device, dtype if batch.is_floating_point() else None, non_blocking=True)


def rows_of(part: Any) -> int:
    """How many rows a part of a batch has: a tensor, or tensors by name, the first of which counts.

    >>> import torch
    >>> from diptych.compat.task.batches import rows_of
    >>> rows_of({"seq_len": 4, "patches": torch.zeros(2, 4, 768)})
    2
    """
    if not isinstance(part, Mapping):
        return len(part)
    return next(len(each) for each in part.values() if isinstance(each, Tensor))
