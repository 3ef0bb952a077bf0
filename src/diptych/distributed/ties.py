"""Parameters that several parts of a module share, through what makes all of its parameters anew (a
move to `meta` and back)."""

from collections.abc import Sequence

from torch import Tensor, nn

from diptych.errors import ConfigError

Ties = list[tuple[str, ...]]
"""The names of each parameter that has several."""


def ties_of(module: nn.Module, units: Sequence[nn.Module] = ()) -> Ties:
    """Those of a module, of which the `units` are spread one by one. Raises ConfigError where a
    unit shares a parameter with what is outside of it: that would be another one there; and for one
    without numbers, of which FSDP gathers no gradient.

    >>> from torch import nn
    >>> from diptych.distributed.ties import tie, ties_of
    >>> pair = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> pair[1].weight = pair[0].weight
    >>> ties_of(pair)
    [('0.weight', '1.weight')]
    >>> moved = pair.to("meta")
    >>> ties_of(moved)
    []
    >>> tie(moved, [("0.weight", "1.weight")])
    >>> moved[1].weight is moved[0].weight
    True
    """
    names: dict[Tensor, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if not parameter.numel():
            raise ConfigError(
                f"{name} has no numbers (it is {list(parameter.shape)}), and can't be sharded: "
                "take it out of the model, or choose --shard.mode replicate"
            )
        names.setdefault(parameter, []).append(name)
    found = [tuple(each) for each in names.values() if len(each) > 1]
    inside = _units_by_name(module, units)
    for each in found:
        if len({inside.get(name) for name in each}) > 1:
            raise ConfigError(
                f"{each[0]} and {each[-1]} are one parameter, and are sharded apart from each "
                "other, so it can't be: choose --shard.mode replicate (in a program, DDP)"
            )
    return found


def tie(module: nn.Module, ties: Ties) -> None:
    """Make the parameters of these names one again: the first."""
    for first, *others in ties:
        parameter = module.get_parameter(first)
        for name in others:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, parameter)


def _units_by_name(module: nn.Module, units: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Of each parameter's name that goes through one of the `units`, which."""
    known, found = set(units), dict[str, nn.Module]()
    for before, part in module.named_modules(remove_duplicate=False):
        for name, _ in part.named_parameters(remove_duplicate=False) if part in known else ():
            found[f"{before}.{name}"] = part
    return found
