"""Modules that have shapes and no numbers, made without torch's own initialisation."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWING = (
    *(nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_),
    *(Tensor.uniform_, Tensor.normal_),
)
"""What layers fill their parameters with when they are made."""


class _Undrawn(TorchFunctionMode):
    """Random numbers aren't drawn: where there is no room for them, torch finds that out in
    Python, tensor by tensor, which takes half of the time that a model takes to be made."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func in _DRAWING:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


@contextmanager
def shapes_only() -> Generator[None, None, None]:
    """Within, tensors are made on `meta`, and layers don't initialise themselves.

    >>> from torch import nn
    >>> from diptych.models.shapes import shapes_only
    >>> with shapes_only():
    ...     layer = nn.Linear(2, 3)
    >>> layer.weight.device, layer.weight.shape
    (device(type='meta'), torch.Size([3, 2]))
    """
    with torch.device("meta"), _Undrawn():
        yield
