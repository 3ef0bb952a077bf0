"""Patterns such as `{00..99}.tar`, written out; how many that would be is known first."""

import re

from braceexpand import braceexpand

from diptych.errors import ConfigError

MOST = 2_000_000
"""Names that a pattern may stand for: the largest published data set has 1.3 million shards."""
_LETTERS = 1_000_000_000
"""Letters of all these names."""
_RANGE = re.compile(r"(-?\d+|[a-zA-Z])\.\.(-?\d+|[a-zA-Z])(?:\.\.-?(\d+))?")


def expand_braces(pattern: str) -> list[str]:
    """The names that a pattern stands for. Raises ConfigError for unbalanced braces, and for more
    than MOST names.

    >>> from diptych.data.braces import expand_braces
    >>> expand_braces("{a,b}{08..10}.tar")
    ['a08.tar', 'a09.tar', 'a10.tar', 'b08.tar', 'b09.tar', 'b10.tar']
    """
    try:
        names = _count(pattern)
        if names > MOST or names * len(pattern) > _LETTERS:
            raise ConfigError(
                f"the pattern {pattern[:80]} stands for more than {MOST:,} names or for very long "
                "ones; give fewer"
            )
        return list(braceexpand(pattern))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"the path {pattern[:80]} has unbalanced braces") from None


def _count(pattern: str) -> int:
    """For how many names it stands."""
    # Of each group that is open: the names of its finished alternatives, and of the one being read.
    finished, current = [0], [1]
    for piece in re.findall(r"\\.|[{},]|[^\\{},]+", pattern, re.DOTALL):
        if piece == "{":
            finished.append(0)
            current.append(1)
        elif piece == "," and len(current) > 1:
            finished[-1] += current[-1]
            current[-1] = 1
        elif piece == "}" and len(current) > 1:
            inside = finished.pop() + current.pop()
            current[-1] *= inside
        elif len(current) > 1 and (range := _RANGE.fullmatch(piece)):
            current[-1] *= _length(*range.groups("1"))
        if current[-1] > _LETTERS:
            break
    return current[-1]


def _length(first: str, last: str, step: str) -> int:
    places = [each if each.lstrip("-").isdecimal() else str(ord(each)) for each in (first, last)]
    return abs(int(places[1]) - int(places[0])) // max(1, int(step)) + 1
