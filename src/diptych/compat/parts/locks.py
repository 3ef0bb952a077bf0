"""Towers frozen but for their last groups of layers, as open_clip counts them (LiT, Zhai et al.
2021, arXiv:2111.07991)."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from diptych.nn.norm import batch_norms

Group = Sequence[Any]
"""Modules, parameters and Nones."""


def groups_of(front: Group, blocks: Any, behind: Group, head: Group) -> list[Group]:
    """From the input to the output: what makes the first block's input, each block, the last one
    with what is behind it, and the projection, or what is in its place (`head`, unless it is of
    Nones alone)."""
    *inner, last = blocks
    groups = [front, *([block] for block in inner), [last, *behind]]
    return groups if all(part is None for part in head) else [*groups, head]


NamedGroups = list[tuple[str, list[Any]]]
"""Names, and modules or parameters."""


def named_groups(groups: Sequence[Group], has_projection: bool) -> NamedGroups:
    """`groups_of`'s by open_clip's names.

    >>> from diptych.compat.parts.locks import named_groups
    >>> named_groups([["table"], ["block"], ["head"]], has_projection=True)
    [('embeddings', ['table']), ('layer.0', ['block']), ('proj', ['head'])]
    """
    last = ["proj"] if has_projection else []
    blocks = [f"layer.{i}" for i in range(len(groups) - 1 - len(last))]
    names = ["embeddings", *blocks, *last]
    parts = [[part for part in group if part is not None] for group in groups]
    return list(zip(names, parts, strict=True))


def lock_groups(groups: Sequence[Group], unlocked: int) -> None:
    """Freeze all but the last `unlocked` groups; those are trained."""
    count = len(groups) - unlocked
    for i, group in enumerate(groups):
        for part in group:
            for parameter in parameters_of(part):
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


def parameters_of(part: Any) -> Iterable[Tensor]:
    """A module's parameters, or a parameter; nothing of None."""
    if isinstance(part, nn.Module):
        return part.parameters()
    return () if part is None else (part,)
