"""Floating-point operations, by torch's formulas."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def flops_of(func: Any, args: Any, kwargs: Any, made: Any) -> int:
    """Of one call of an operator: of products, convolutions and attention; a multiply-add is
    two."""
    count = flop_registry.get(func.overloadpacket)
    return count(*args, **kwargs, out_val=made) if count else 0


class Flops(TorchDispatchMode):
    """Counts the operations of all that is computed under it, backward passes included.

    >>> import torch
    >>> from diptych.training.flops import Flops
    >>> with Flops() as counted:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 5)
    >>> counted.total
    60
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.total += flops_of(func, args, kwargs or {}, made)
        return made
