"""The range of every number in a configuration, in its type, and one check of them all.

    lr: Above = 5e-4                      a finite number above 0
    flip: Share = 0.0                     from 0 to 1
    warmup: Count = 0                     a whole number from 0

What isn't a number (NaN) is in no range. A new field of a plain `int` or `float` fails a test.
"""

import dataclasses
import functools
import math
import numbers
import types
import typing
from typing import Annotated, Any

from diptych.errors import ConfigError

MAX_LAYERS = 1000
"""Blocks of a tower. The deepest that is published has 64; a description of millions, which a
damaged or hostile file may hold, would take all memory before a weight is compared."""
_WIDEST, _MANY, _LARGEST = 2**24, 10**11, 1e38
"""Of widths, counts and factors: beyond what anybody means."""
_BEYOND = 2**20
"""From here on a bound is of that kind."""


@dataclasses.dataclass(frozen=True)
class Range:
    """From `low` to `high`; an open end doesn't belong to it.

    >>> from diptych.config.ranges import Range
    >>> 1.0 in Range(0, 1, open_high=True), float("nan") in Range()
    (False, False)
    >>> float("inf") in Range(), float("inf") in Range(0, 1e38)
    (True, False)
    """

    low: int | float = -math.inf
    high: int | float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return False
        number = float(value)
        endless = number == self.high  # infinity itself, where it is the end
        fits = (math.isfinite(number) or endless) and self.low <= number <= self.high
        above = not (self.open_low and number == self.low)
        return fits and above and not (self.open_high and number == self.high)

    def wanted(self, value: Any) -> str:
        """What a number would be that fits better than `value`. A bound that only keeps out what
        nobody means is said to who is beyond it."""
        low, high = _plain(self.low), _plain(self.high)
        beyond = isinstance(value, numbers.Real) and float(value) > self.high
        if self.high >= _BEYOND and not beyond:
            least = f"above {low}" if self.open_low else f"of at least {low}"
            return f"a number {least}" if self.low > -_BEYOND else "a finite number"
        start = "above " if self.open_low else ""
        end = "below " if self.open_high else ""
        return f"a number from {start}{low} to {end}{high}"


def _plain(bound: int | float) -> int | float:
    return int(bound) if abs(bound) <= _MANY and bound == int(bound) else bound


@dataclasses.dataclass(frozen=True)
class Filled:
    """A text, or several, that isn't empty; `called`: what it is called on the command line."""

    called: str


Share = Annotated[float, Range(0, 1)]
ShareBelowAll = Annotated[float, Range(0, 1, open_high=True)]
ShareOfSome = Annotated[float, Range(0, 1, open_low=True)]
Factor = Annotated[float, Range(0, _LARGEST)]
Above = Annotated[float, Range(0, _LARGEST, open_low=True)]
Limit = Annotated[float, Range(0, math.inf, open_low=True)]
"""Infinite: there is none."""
Finite = Annotated[float, Range(-_LARGEST, _LARGEST)]
Level = Annotated[float, Range(0, 255)]
"""Grey levels of a picture."""
Count = Annotated[int, Range(0, _MANY)]
CountOrAll = Annotated[int, Range(-1, _MANY)]
Some = Annotated[int, Range(1, _MANY)]
Width = Annotated[int, Range(1, _WIDEST)]
Layers = Annotated[int, Range(0, MAX_LAYERS)]
Context = Annotated[int, Range(1, 2**20)]
"""Tokens of a text."""
Patches = Annotated[int, Range(1, 2**16 - 1)]
"""Of one picture."""
Grey = Annotated[int, Range(0, 255)]
Pixels = Annotated[int, Range(1, 2**15)]
OwnPixels = Annotated[int, Range(0, 2**15)]
"""0: the model's own."""
HalfTurn = Annotated[float, Range(0, 0.5)]
"""Of the colour circle, either way."""
Workers = Annotated[int, Range(0, 4096)]
Seed = Annotated[int, Range(0, 2**63 - 1)]


class Ranged:
    """The base of configurations whose fields are checked when one is made. A subclass with a
    `__post_init__` of its own calls this one first."""

    flags: typing.ClassVar[str] = ""
    """What stands before the fields' names on the command line."""

    def __post_init__(self) -> None:
        check_ranges(self, self.flags)


def check_ranges(config: Any, flags: str = "--") -> None:
    """Raises ConfigError for the first field of a dataclass that lies outside of its range, naming
    field and value; `flags` stands before the name.

    >>> from dataclasses import dataclass
    >>> from diptych.config.ranges import Share, check_ranges
    >>> @dataclass
    ... class Coin:
    ...     heads: Share = 0.5
    >>> check_ranges(Coin(1.5))
    Traceback (most recent call last):
    ...
    diptych.errors.ConfigError: --heads 1.5 must be a number from 0 to 1
    """
    for name, hint in _hints(type(config)).items():
        spelled = name.replace("_", "-") if flags else name
        _check(f"{flags}{spelled}", getattr(config, name), hint)


def check_ids(vocab_size: int, **ids: int | None) -> None:
    """Raises ConfigError for the first of the `ids` that is none of a vocabulary of so many (None:
    there is none to check), naming both.

    >>> from diptych.config.ranges import check_ids
    >>> check_ids(49408, start_id=None, pad_id=10**12)
    Traceback (most recent call last):
    ...
    diptych.errors.ConfigError: pad_id 1000000000000 is none of vocab_size 49408 ids
    """
    for name, value in ids.items():
        if value is not None and not 0 <= value < vocab_size:
            raise ConfigError(f"{name} {value} is none of vocab_size {vocab_size} ids")


def check_rising(flags: str, **pairs: tuple[float, float]) -> None:
    """Raises ConfigError for two numbers of which the second is smaller."""
    for name, (low, high) in pairs.items():
        if high < low:
            spelled = name.replace("_", "-")
            raise ConfigError(f"{flags}{spelled} {low} {high} must not fall: the smaller one first")


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _check(name: str, value: Any, hint: Any) -> None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if value is None:
        if origin is Annotated or origin is tuple:
            raise ConfigError(f"{name} must have a value, and has none")
        return
    if origin in (typing.Union, types.UnionType):
        for each in arguments:
            if typing.get_origin(each) is Annotated or not isinstance(value, str):
                _check(name, value, each)
    elif origin is tuple:
        _check_tuple(name, value, arguments)
    elif origin is Annotated:
        _check(name, value, arguments[0])
        for mark in arguments[1:]:
            _check_mark(name, value, mark, whole=arguments[0] is int)


def _check_tuple(name: str, values: Any, kinds: tuple[Any, ...]) -> None:
    endless = len(kinds) == 2 and kinds[1] is Ellipsis
    if not isinstance(values, tuple | list):
        return  # of a union with one text, and types that aren't ours
    given: tuple[Any, ...] = tuple(values)
    if not endless and len(given) != len(kinds):
        raise ConfigError(f"{name} {given} must be {len(kinds)} values, not {len(given)}")
    for value, kind in zip(given, (kinds[0],) * len(given) if endless else kinds):
        _check(f"{name} {given}:" if len(given) > 1 else name, value, kind)


def _check_mark(name: str, value: Any, mark: Any, whole: bool) -> None:
    if isinstance(mark, Range):
        if whole and not isinstance(value, numbers.Integral):
            raise ConfigError(f"{name} {value} must be a whole number")
        if value not in mark:
            raise ConfigError(f"{name} {value} must be {mark.wanted(value)}")
    elif isinstance(mark, Filled):
        for text in value if isinstance(value, tuple) else (value,):
            if not text.strip():
                raise ConfigError(f"{mark.called} {text!r} is empty; give a name")
