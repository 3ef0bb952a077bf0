"""Among which pictures is looked: of some folders, and of what is known of them."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from diptych.errors import ConfigError
from diptych.search.columns import clean, kind_of
from diptych.search.metadata import Metadata

Rows = Bool[np.ndarray, " rows"]

_CONDITION = re.compile(r"\s*([^\s<>=!~][^<>=!~]*?)\s*(<=|>=|!=|<|>|=|~)\s*(.*?)\s*", re.DOTALL)
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?)?)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(k|m|g)?(b|p|px)", re.ASCII | re.IGNORECASE)
_TIMES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_ORDER = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "=": np.equal,
    "!=": np.not_equal,
}


@dataclass(frozen=True)
class Condition:
    """What is asked of one column. A row whose value isn't known doesn't fulfil it."""

    column: str
    relation: str
    """`=`, `!=`, `<`, `<=`, `>`, `>=`, or `~`: the text contains the value."""
    value: str
    """A number; a date, such as 2024, 2024-05 or 2024-05-31T12:00, of which `=` means within it; a
    text, in any case, for `=` and `!=` with `*` for any letters; yes or no."""

    def __post_init__(self) -> None:
        if self.relation not in (*_ORDER, "~"):
            raise ConfigError(f"{self.relation!r} is no relation: known are {', '.join(_ORDER)}, ~")

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """From `year>=2020`, `camera = canon*`, `caption~dog`. Raises ConfigError.

        >>> from diptych.search import Condition
        >>> Condition.parse("year >= 2020")
        Condition(column='year', relation='>=', value='2020')
        """
        found = _CONDITION.fullmatch(text)
        if not found or not found[3]:
            raise ConfigError(
                f"{text!r} is no condition: write a column, one of = != < <= > >= ~ and a value, "
                "such as year>=2020, camera=Canon* or caption~dog"
            )
        return cls(found[1], found[2], found[3])

    @classmethod
    def of_size(cls, relation: str, size: str) -> "Condition":
        """Of a size in bytes (`200kB`, `1.5MB`) or pixels (`2MP`). Raises ConfigError.

        >>> from diptych.search import Condition
        >>> Condition.of_size(">=", "1.5MB"), Condition.of_size("<", "2MP").column
        (Condition(column='bytes', relation='>=', value='1500000'), 'pixels')
        """
        found = _SIZE.fullmatch(size.strip())
        if not found:
            raise ConfigError(f"{size!r} is no size: write bytes (200kB, 1.5MB) or pixels (2MP)")
        number = float(found[1]) * _TIMES[(found[2] or "").lower()]
        return cls("bytes" if found[3].lower() == "b" else "pixels", relation, f"{number:.0f}")

    def rows(self, metadata: Metadata) -> Rows:
        """Which rows fulfil it. Raises UnknownNameError for a column that isn't there, ConfigError
        for a relation or a value that isn't of its kind."""
        column = metadata.column(self.column)
        match kind_of(column):
            case "number":
                return self._of_numbers(column)
            case "date":
                return self._of_dates(column)
            case "truth":
                return self._of_truths(column)
            case "text":
                return self._of_texts(column)
            case "nothing" | None:
                return np.zeros(len(column), bool)

    def _of_numbers(self, column: Any) -> Rows:
        from pyarrow.types import is_integer

        if self.relation not in _ORDER or not _NUMBER.fullmatch(self.value):
            raise self._unfit("numbers", "year>=2020")
        if is_integer(column.type) and _WHOLE.fullmatch(self.value):
            # float64 can't tell ids of more than 16 digits apart.
            known = column.is_valid().to_numpy()
            values = column.fill_null(0).to_numpy()
            return _ORDER[self.relation](values, int(self.value)) & known
        return self._ordered(_numbers(column), float(self.value))

    def _of_dates(self, column: Any) -> Rows:
        if self.relation not in _ORDER or not _DATE.fullmatch(self.value):
            raise self._unfit("dates", "date>=2024-05 or date<2024-05-31T12:00")
        try:
            value = np.datetime64(self.value.replace(" ", "T"))
        except ValueError as error:
            raise ConfigError(f"{self.value} is no date: {error}") from None
        # Dates are as exact as the value, so 2024-05 equals each day of that May.
        dates = column.to_numpy().astype(value.dtype)
        return self._ordered(dates, value)

    def _of_truths(self, column: Any) -> Rows:
        if self.relation not in ("=", "!=") or self.value.lower() not in _TRUTHS:
            raise self._unfit("yes and no", "indoors=yes")
        return self._ordered(_numbers(column), float(_TRUTHS[self.value.lower()]))

    def _of_texts(self, column: Any) -> Rows:
        wanted = self.value.casefold()
        if self.relation in ("<", "<=", ">", ">=") and _NUMBER.fullmatch(self.value):
            return self._ordered(
                np.array([_number(text) for text in column.to_pylist()]), float(wanted)
            )
        texts = ["" if text is None else text.casefold() for text in column.to_pylist()]
        known = ~column.is_null().to_numpy()
        match self.relation:
            case "~":
                found = np.array([wanted in text for text in texts], bool)
            case "=" | "!=":
                alike = re.compile(_pattern(wanted), re.DOTALL)
                found = np.array([bool(alike.fullmatch(text)) for text in texts], bool)
                found = found if self.relation == "=" else ~found
            case _:
                found = _ORDER[self.relation](np.array(texts, object), wanted).astype(bool)
        return found & known

    def _ordered(self, values: np.ndarray, value: Any) -> Rows:
        unknown = values != values  # NaN, NaT
        return _ORDER[self.relation](values, value) & ~unknown

    def _unfit(self, kind: str, example: str) -> ConfigError:
        return ConfigError(
            f"{self.column}{self.relation}{self.value}: the column {self.column} is of {kind}; "
            f"write a condition such as {example}"
        )


@dataclass(frozen=True, kw_only=True)
class Where:
    """Among which pictures is looked: those that fulfil all of it.

    >>> from diptych.search import Condition, Where
    >>> where = Where(folders=("photos/2024",), conditions=(Condition.parse("camera=canon*"),))
    """

    folders: tuple[str, ...] = ()
    """In or below one of these, of shards `SHARD.tar` or `SHARD.tar/FOLDER`. With `*` or `?`, and
    no slash, any folder or file of such a name."""
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def of(
        cls,
        folders: Sequence[str] = (),
        after: str = "",
        before: str = "",
        larger: str = "",
        smaller: str = "",
        conditions: Sequence[str] = (),
    ) -> "Where | None":
        """From what was typed: dates from `after` on and before `before`, sizes of `larger` or more
        and below `smaller`. None: nothing is asked. Raises ConfigError.

        >>> from diptych.search import Where
        >>> Where.of(after="2024").conditions
        (Condition(column='date', relation='>=', value='2024'),)
        """
        asked = list(map(Condition.parse, conditions))
        for relation, date in ((">=", after), ("<", before)):
            asked += [Condition("date", relation, date)] if date else []
        for relation, size in ((">=", larger), ("<", smaller)):
            asked += [Condition.of_size(relation, size)] if size else []
        if not asked and not folders:
            return None
        return cls(folders=tuple(folders), conditions=tuple(asked))

    def rows(self, metadata: Metadata) -> Rows:
        """Which rows of an index do. Nothing is looked for on the disk. Raises UnknownNameError and
        ConfigError as `Condition.rows` does."""
        found = np.ones(metadata.rows, bool)
        if self.folders:
            found = _lie_in(metadata, self.folders)
        for condition in self.conditions:
            found &= condition.rows(metadata)
        return found


def _lie_in(metadata: Metadata, folders: Sequence[str]) -> Rows:
    from pyarrow.compute import MatchSubstringOptions, call_function

    patterns = list[str]()
    for folder in folders:
        anywhere = os.sep not in folder and ("*" in folder or "?" in folder)
        start = f"*/{folder}" if anywhere else os.path.abspath(folder)
        patterns += [_pattern(clean(text)) for text in (start, f"{start.rstrip(os.sep)}/*")]
    lies = MatchSubstringOptions("|".join(f"^(?s:{pattern})$" for pattern in patterns))
    found = np.zeros(metadata.rows, bool)
    for paths in metadata.places:
        found |= call_function("match_substring_regex", [paths], lies).to_numpy()
    return found


def _pattern(text: str) -> str:
    """Of a text in which `*` stands for any letters and `?` for one; of RE2 and of Python."""
    return "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in text)


def _numbers(column: Any) -> np.ndarray:
    """NaN where none is known."""
    from pyarrow import float64, int8

    kind = int8() if kind_of(column) == "truth" else column.type
    return column.cast(kind).cast(float64(), safe=False).to_numpy()


def _number(text: str | None) -> float:
    return float(text) if text and _NUMBER.fullmatch(text) else float("nan")
