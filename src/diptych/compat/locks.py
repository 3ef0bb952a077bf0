"""Towers frozen but for their last groups of layers, as open_clip counts them (LiT, Zhai et al.
2021, arXiv:2111.07991)."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from diptych.nn.norm import batch_norms

Group = Sequence[Any]
"""Modules, parameters and Nones."""


def groups_of(front: Group, blocks: Any, behind: Group, projection: Any) -> list[Group]:
    """From the input to the projection (None: there is none): what makes the first block's input,
    each block, the last one with what is behind it."""
    *inner, last = blocks
    groups = [front, *([block] for block in inner), [last, *behind]]
    return groups if projection is None else [*groups, [projection]]


def lock_groups(groups: Sequence[Group], unlocked: int) -> None:
    """Freeze all but the last `unlocked` groups; those are trained."""
    count = len(groups) - unlocked
    for i, group in enumerate(groups):
        for part in group:
            for parameter in _parameters(part):
                parameter.requires_grad_(i >= count)


def check_norms_frozen(frozen: bool) -> None:
    """Raises AssertionError, as open_clip does, where a lock is to leave the norms out."""
    if not frozen:
        raise AssertionError(
            "Unfreezing LayerNorm is not supported. LayerNorm treated like other weights."
        )


def lock_depths(depths: Iterable[tuple[nn.Parameter, int]], last: int, unlocked: int) -> None:
    """Freeze the parameters of a depth of at most `last` - `unlocked`."""
    for parameter, depth in depths:
        if depth <= last - unlocked:
            parameter.requires_grad_(False)


def locked_norms(tower: nn.Module) -> list[str]:
    """The batch norms none of whose parameters is trained."""
    norms = set(batch_norms(tower))
    found: list[str] = []
    for name, module in tower.named_modules():
        if module in norms and not any(each.requires_grad for each in module.parameters()):
            found.append(name)
    return found


def _parameters(part: Any) -> Iterable[Tensor]:
    if isinstance(part, nn.Module):
        return part.parameters()
    return () if part is None else (part,)
