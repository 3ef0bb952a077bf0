"""Which weights decay."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that are treated alike, by their names in the model."""

    title: str
    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    weight_decay: float


def decay_groups(module: nn.Module, no_decay: frozenset[str], weight_decay: float) -> tuple[Group, ...]:
    """Two groups of the parameters that are trained: matrices decay; vectors and the names in `no_decay` don't.

    Frozen parameters (`requires_grad` false) are in neither. An empty group is left out.

    >>> from torch import nn
    >>> from diptych.optim import decay_groups
    >>> [(group.title, group.names) for group in decay_groups(nn.Linear(2, 3), frozenset(), 0.2)]
    [('decay', ('weight',)), ('no decay', ('bias',))]
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    decayed = {name for name, p in trained.items() if p.ndim > 1 and name not in no_decay}
    groups = []
    for title, chosen, decay in (
        ("decay", [n for n in trained if n in decayed], weight_decay),
        ("no decay", [n for n in trained if n not in decayed], 0.0),
    ):
        if chosen:
            parameters = tuple(trained[name] for name in chosen)
            groups.append(Group(title=title, names=tuple(chosen), parameters=parameters, weight_decay=decay))
    return tuple(groups)


def table(groups: tuple[Group, ...]) -> str:
    """The groups as aligned text: title, tensors, weights, decay.

    >>> from torch import nn
    >>> from diptych.optim import decay_groups, table
    >>> print(table(decay_groups(nn.Linear(2, 3), frozenset(), 0.2)))
    group       tensors     weights  decay
    decay             1           6    0.2
    no decay          1           3    0.0
    """
    rows = [f"{'group':<10} {'tensors':>8} {'weights':>11} {'decay':>6}"]
    for group in groups:
        weights = sum(p.numel() for p in group.parameters)
        rows.append(f"{group.title:<10} {len(group.names):>8} {weights:>11,} {group.weight_decay:>6}")
    return "\n".join(rows)
