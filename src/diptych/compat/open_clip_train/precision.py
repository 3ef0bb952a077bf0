"""In which precision open_clip_train computes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

_DTYPES = {"amp": torch.float16, "amp_bf16": torch.bfloat16, "amp_bfloat16": torch.bfloat16}


def get_autocast(
    precision: str, device_type: str = "cuda", fsdp: bool = False
) -> Callable[[], AbstractContextManager[Any]]:
    """A maker of contexts in which matrix products are of `amp` (float16) or `amp_bf16`; of all
    other words, and with `fsdp`, whose own policy casts, contexts that change nothing.

    >>> import torch
    >>> from diptych.compat.open_clip_train.precision import get_autocast
    >>> with get_autocast("amp_bf16", "cpu")():
    ...     (torch.eye(2) @ torch.eye(2)).dtype
    torch.bfloat16
    """
    if fsdp or precision not in _DTYPES:
        return nullcontext
    return partial(torch.autocast, device_type, _DTYPES[precision])
