"""Optimisers by open_clip_train's names, and which arguments each takes."""

import importlib
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from diptych.errors import ConfigError, UnknownNameError

TIMM = "timm/"
_OWN: dict[str, type[Optimizer]] = {"adamw": torch.optim.AdamW, "nadamw": torch.optim.NAdam}
_NOT_OPTIONS = {"self", "params", "lr"}


def made(
    name: str, groups: list[dict[str, Any]], lr: float, decay: float, options: dict[str, Any]
) -> Optimizer:
    """The optimiser of this name over these groups. Raises UnknownNameError as `refuse_unknown`."""
    kind = kind_of(name)
    if kind is torch.optim.NAdam:
        options = {"decoupled_weight_decay": True} | options
    if kind in _OWN.values():
        return kind(groups, lr=lr, **options)  # pyright: ignore[reportCallIssue]
    short = name.lower().removeprefix(TIMM)
    return _timm().create_optimizer_v2(groups, short, lr=lr, weight_decay=decay, **options)


def refuse_unknown(name: str, options: Iterable[str]) -> None:
    """Raises ConfigError for options that the optimiser of this name doesn't take, and
    UnknownNameError for a name that nobody has.

    >>> from diptych.compat.open_clip_train.optim_kinds import refuse_unknown
    >>> refuse_unknown("adamw", ["amsgrad"])
    """
    parameters = inspect.signature(kind_of(name)).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    if unknown := sorted(set(options) - (parameters.keys() - _NOT_OPTIONS)):
        known = ", ".join(sorted(parameters.keys() - _NOT_OPTIONS))
        raise ConfigError(f"--opt-kwargs {unknown[0]}: {name} has no such argument; it has {known}")


def kind_of(name: str) -> type[Optimizer]:
    """The class of this name. Raises as `refuse_unknown`, and ConfigError where it is timm's, and
    that isn't installed."""
    small = name.lower()
    if small in _OWN:
        return _OWN[small]
    short = small.removeprefix(TIMM)
    if short == small:
        raise UnknownNameError("optimiser", name, [*_OWN, f"{TIMM}NAME"])
    try:
        timm = _timm()
    except ImportError as error:
        raise ConfigError(f"{name} is timm's: pip install timm") from error
    if short not in (known := timm.list_optimizers()):
        raise UnknownNameError("optimiser of timm", short, known)
    return timm.get_optimizer_class(short, bind_defaults=False)


def _timm() -> Any:
    """timm's optimisers, which say nothing of their types."""
    return importlib.import_module("timm.optim")
