"""open_clip's helpers for modules.

https://github.com/mlfoundations/open_clip, src/open_clip/utils.py
"""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from torch import nn
from torchvision.ops.misc import (  # pyright: ignore[reportMissingTypeStubs]
    FrozenBatchNorm2d,
)

from diptych.compat.parts.stack import taken_indices


def freeze_batch_norm_2d(
    module: nn.Module, module_match: Collection[str] = (), name: str = ""
) -> nn.Module:
    """Put torchvision's `FrozenBatchNorm2d` in place of batch norms, with their numbers: of all, or
    of those whose names are in `module_match`. Gives the module, or what stands in its place.

    >>> from torch import nn
    >>> from diptych.compat.utils import freeze_batch_norm_2d
    >>> freeze_batch_norm_2d(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))[1]
    FrozenBatchNorm2d(4, eps=1e-05)
    """
    if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
        return module if module_match and name not in module_match else _frozen(module)
    for child_name, child in module.named_children():
        full = f"{name}.{child_name}" if name else child_name
        module.add_module(child_name, freeze_batch_norm_2d(child, module_match, full))
    return module


def _frozen(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> nn.Module:
    made: Any = FrozenBatchNorm2d(norm.num_features, norm.eps)
    made.num_features, made.affine = norm.num_features, norm.affine  # which torchvision forgets
    if norm.running_mean is not None:
        made.to(norm.running_mean)  # its device and precision
    state = norm.state_dict()
    state.pop("num_batches_tracked", None)
    made.load_state_dict(state, strict=False)  # a norm without weights keeps ones and zeros
    return made


def to_ntuple(n: int, x: Any) -> Any:
    """What is given if it is several, else n times the same.

    >>> from diptych.compat.utils import to_2tuple, to_ntuple
    >>> to_2tuple(7), to_ntuple(3, (1, 2))
    ((7, 7), (1, 2))
    """
    return x if isinstance(x, Iterable) else (x,) * n


to_1tuple: Callable[[Any], Any] = partial(to_ntuple, 1)
to_2tuple: Callable[[Any], Any] = partial(to_ntuple, 2)
to_3tuple: Callable[[Any], Any] = partial(to_ntuple, 3)
to_4tuple: Callable[[Any], Any] = partial(to_ntuple, 4)


def feature_take_indices(
    num_features: int, indices: int | Collection[int] | None = None, as_set: bool = False
) -> tuple[Any, int]:
    """Which of so many features are meant, the last so many or those of these numbers (None: all),
    and the last of them. Raises AssertionError for others.

    >>> from diptych.compat.utils import feature_take_indices
    >>> feature_take_indices(12, 2), feature_take_indices(12, [0, -1])
    (([10, 11], 11), ([0, 11], 11))
    """
    taken = taken_indices(num_features, indices)
    return set(taken) if as_set else taken, max(taken)
