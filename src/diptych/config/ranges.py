"""Ranges of numbers, checked in one way: what isn't a number is in none."""

import math

from diptych.errors import ConfigError

MAX_LAYERS = 1000
"""Blocks of a tower. The deepest that is published has 64; a description of millions, which a
damaged or hostile file may hold, would take all memory before a weight is compared."""


def check_range(
    name: str,
    value: int | float | None,
    low: int | float = -math.inf,
    high: int | float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raises ConfigError unless `value` is None, or a finite number from `low` to `high`; an open
    end doesn't belong to it.

    >>> from diptych.config.ranges import check_range
    >>> check_range("momentum", 0.9, 0, 1, open_high=True)
    >>> check_range("momentum", 1.0, 0, 1, open_high=True)
    Traceback (most recent call last):
    ...
    diptych.errors.ConfigError: momentum 1.0 must be a number from 0 to below 1
    """
    if value is None:
        return
    fits = math.isfinite(value) and low <= value <= high
    if fits and not (open_low and value == low) and not (open_high and value == high):
        return
    below = "below " if open_high else ""
    if low == -math.inf and high == math.inf:
        told = ""
    elif high == math.inf:
        told = f" above {low}" if open_low else f" of at least {low}"
    else:
        told = f" from {'above ' if open_low else ''}{low} to {below}{high}"
    raise ConfigError(f"{name} {value} must be a number{told}")
