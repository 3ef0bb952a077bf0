"""From the words of a command line to `Options`, as open_clip's parser reads them."""

import argparse
import ast
import types
import typing
from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any, NoReturn

from diptych.compat.open_clip_train.options import LATER, MAINS, OWN, Fate, Options
from diptych.errors import ConfigError, UnknownNameError

_PROG = "python -m diptych.compat.open_clip_train"
_ABOUT = (
    "Trains what a command line of open_clip_train.main asks for: prints the equivalent "
    "`diptych train` command, and runs it. Beside each flag stands what becomes of it."
)


class FlagParser(argparse.ArgumentParser):
    """Says what is wrong in one sentence (ConfigError)."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help lists all flags")


def parse(words: Sequence[str]) -> tuple[Options, list[str]]:
    """The options, and a remark on each flag that is passed over.

    Raises ConfigError for a value that doesn't fit and for a flag without which the training would
    be another one; UnknownNameError for one that nobody has.

    >>> from diptych.compat.open_clip_train.parse import parse
    >>> options, remarks = parse(["--train-data", "a.csv", "--debug"])
    >>> options.train_data, remarks
    ('a.csv', ['--debug is passed over: nothing more is logged'])
    """
    parser = _parser()
    found, unknown = parser.parse_known_args(words)
    if unknown:
        flags = [flag_of(each.name) for each in fields(Options)] + [f"--{name}" for name in LATER]
        raise UnknownNameError("flag of open_clip_train", unknown[0].partition("=")[0], flags)
    given = vars(found)
    later = {name: given.pop(name.replace("-", "_")) for name in LATER}
    options = Options(**given)
    remarks = list[str]()
    for each in fields(Options):
        if getattr(options, each.name) != each.default:
            remarks += _fate(flag_of(each.name), fate_of(each))
    for name, values in later.items():
        if values is not None:
            remarks += _fate(f"--{name}", LATER[name])
    return options, remarks


def flag_of(name: str) -> str:
    """How a field of `Options` is spelled on the command line."""
    return "--" + name.replace("_", "-")


def fate_of(each: Field[Any]) -> Fate:
    """What becomes of a field of `Options`."""
    return each.metadata["fate"]


def table() -> str:
    """All flags, and what becomes of them, as a table in Markdown."""
    named = {each.name: (flag_of(each.name), fate_of(each)) for each in fields(Options)}
    apart = (*OWN, *MAINS)
    rows = [row for name, row in named.items() if name not in apart]
    rows += [named[name] for name in MAINS]
    rows += [(f"--{name}", fate) for name, fate in LATER.items()]
    rows += [named[name] for name in OWN]
    lines = ["| open_clip_train | here | |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| `{flag}` | {kind} | {text} |" for flag, (kind, text) in rows)])


def _fate(flag: str, fate: Fate) -> list[str]:
    if fate.kind == "refused":
        raise ConfigError(f"{flag} can't be honoured: {fate.text}; leave it out")
    return [f"{flag} is passed over: {fate.text}"] if fate.kind == "remarked" else []


def _parser() -> argparse.ArgumentParser:
    parser = FlagParser(prog=_PROG, description=_ABOUT)
    hints = typing.get_type_hints(Options)
    for each in fields(Options):
        about = fate_of(each).text.replace("%", "%%")
        options: dict[str, Any] = {
            "default": each.default,
            "help": about,
            **_kind(hints[each.name]),
        }
        parser.add_argument(flag_of(each.name), **options)
    for name, fate in LATER.items():
        parser.add_argument(f"--{name}", nargs="*", metavar="…", help=f"{fate.kind}: {fate.text}")
    return parser


def _kind(hint: Any) -> dict[str, Any]:
    """How argparse is told of a type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint == bool | None:  # which says the opposite, too: --no-...
        return {"action": argparse.BooleanOptionalAction}
    if origin in (typing.Union, types.UnionType):
        return _kind(arguments[0])
    if hint is bool:
        return {"action": "store_true"}
    if origin is typing.Literal:
        return {"choices": arguments}
    if origin is tuple:
        return {"type": arguments[0], "nargs": "+", "action": _Tuple, "metavar": "N"}
    if origin is dict:
        return {"nargs": "*", "action": _Pairs, "metavar": "KEY=VALUE"}
    return {"type": hint}


class _Tuple(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, tuple(values))


class _Pairs(argparse.Action):
    """`key=value …`, where a value is a Python literal or else a text, as open_clip reads them."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        found = dict[str, Any]()
        for word in values:
            key, equals, value = word.partition("=")
            if not equals:
                parser.error(f"argument {option_string}: {word!r} is no KEY=VALUE")
            try:
                found[key] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                found[key] = value
        setattr(namespace, self.dest, found or None)
