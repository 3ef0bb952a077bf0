"""`--opt-kwargs`: arguments of an optimiser as settings of a Run."""

import inspect
from dataclasses import replace
from typing import Any

from diptych.compat.open_clip_train.optim_kinds import kind_of, refuse_unknown
from diptych.compat.open_clip_train.options import Options
from diptych.config import OptimConfig
from diptych.errors import ConfigError

_NUMBERS = ("eps", "weight_decay", "momentum")
_NO_NUMBER = {"foreach", "fused", "capturable"}
"""How it is computed, which changes nothing but the time."""


def with_kwargs(config: OptimConfig, options: Options) -> tuple[OptimConfig, list[str]]:
    """The settings with what `--opt-kwargs` says, and what the user should know of it.

    Raises ConfigError for an argument that the optimiser doesn't take, one of the wrong kind, and
    one that would make it another optimizer.

    >>> from diptych.compat.open_clip_train.optim_kwargs import with_kwargs
    >>> from diptych.compat.open_clip_train.parse import parse
    >>> from diptych.config import OptimConfig
    >>> options, _ = parse(["--opt-kwargs", "eps=1e-7", "foreach=False"])
    >>> found, remarks = with_kwargs(OptimConfig(), options)
    >>> found.eps, remarks
    (1e-07, ['--opt-kwargs foreach is passed over: it changes no number'])
    """
    given, remarks = options.opt_kwargs or {}, list[str]()
    if not given:
        return config, remarks
    refuse_unknown(options.opt, given)
    defaults = inspect.signature(kind_of(options.opt)).parameters
    changes = dict[str, Any]()
    for name, value in given.items():
        if name == "betas":
            changes[name] = _betas(value)
        elif name in _NUMBERS:
            changes[name] = _number(name, value)
        elif name in _NO_NUMBER:
            remarks.append(f"--opt-kwargs {name} is passed over: it changes no number")
        elif name not in defaults or defaults[name].default != value:
            raise ConfigError(
                f"--opt-kwargs {name}={value} can't be honoured: {options.opt} is here as it is by "
                "default; leave it out"
            )
    return replace(config, **changes), remarks


def _betas(value: Any) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(list(value)) != 2:  # pyright: ignore
        raise ConfigError(f"--opt-kwargs betas={value}: two numbers, as in betas=(0.9,0.98)")
    one, two = (_number("betas", each) for each in list(value))  # pyright: ignore
    return one, two


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"--opt-kwargs {name}={value} must be a number")
    return float(value)
