"""Two sets of weights under our names: in what they differ."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_SAME = 1e-6
"""Of a tensor's largest number: what conversions between layouts may round off."""
SCALES = ("logit_scale", "logit_bias")
"""Are parts of their own."""


class Said(NamedTuple):
    """What each of the two has, where they differ."""

    a: str
    b: str


def compare(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Said | None:
    """What differs first; None: nothing. Where the two are stored in two precisions, the finer is
    rounded to the other's.

    >>> import torch
    >>> from diptych.diagnosis.weights import compare
    >>> compare({"bias": torch.zeros(2)}, {"bias": torch.ones(2), "gain": torch.ones(2)})
    Said(a='lacks 1 tensors of the other: gain', b='has them')
    >>> compare({"bias": torch.ones(2)}, {"bias": torch.tensor([1.0, 3.0])}).b
    'by up to 66.67% of its largest number'
    """
    mine, theirs = ({name for name in each if name not in SCALES} for each in (a, b))
    if lacking := sorted(theirs - mine):
        return Said(f"lacks {len(lacking)} tensors of the other: {lacking[0]}", "has them")
    if lacking := sorted(mine - theirs):
        return Said("has them", f"lacks {len(lacking)} tensors of the other: {lacking[0]}")
    apart = dict[str, float]()
    for name in mine:
        if a[name].shape != b[name].shape:
            return Said(f"{name} {list(a[name].shape)}", f"{name} {list(b[name].shape)}")
        apart[name] = _off(a[name], b[name])
    differing = [name for name, off in apart.items() if off > _SAME]
    if broken := sorted(name for name in differing if math.isinf(apart[name])):
        return Said(*(_said_of_broken(broken[0], each[broken[0]]) for each in (a, b)))
    if not differing:
        return None
    worst = max(sorted(differing), key=lambda name: apart[name])
    return Said(
        f"{len(differing)} of {len(mine)} tensors differ, {worst} most",
        f"by up to {apart[worst]:.2%} of its largest number",
    )


def _off(mine: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest number; infinite where it isn't finite."""
    coarse = mine.dtype if mine.itemsize <= theirs.itemsize else theirs.dtype
    x, y = (each.detach().cpu().to(coarse) for each in (mine, theirs))
    if torch.allclose(x, y, rtol=0, atol=0, equal_nan=True):
        return 0.0
    x, y = x.double(), y.double()
    share = float((x - y).abs().max() / torch.maximum(x.abs().max(), y.abs().max()))
    return share if math.isfinite(share) else math.inf


def _said_of_broken(name: str, tensor: Tensor) -> str:
    numbers = int((~tensor.isfinite()).sum())
    return f"{name} has {numbers} numbers that aren't finite"
