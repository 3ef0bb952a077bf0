"""From the command line's arguments to a verb's options."""

from collections.abc import Sequence
from typing import TypeVar

import tyro

from diptych.cli.help import parsed
from diptych.cli.processes import said_by_the_first
from diptych.config.ranges import check_ranges

T = TypeVar("T")
_CONFIG = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff)


def parse(kind: type[T], verb: str, arguments: Sequence[str]) -> T:
    """The dataclass `kind`, whose fields are the flags and whose docstring is the help.

    Prints help and exits where it is asked for. Raises ConfigError for what doesn't fit, with near
    misses, and for a number out of its range.
    """
    with said_by_the_first():
        options = parsed(kind, verb, arguments, config=_CONFIG)
    check_ranges(options)
    return options
