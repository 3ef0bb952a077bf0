"""Configurations as JSON and back, changed by dotted path, and compared.

Each is written with its class under `type`: ours by name, others by import path, so that what
stands where several are possible (a tower, an objective) loads again.
"""

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from diptych.bounded import parse_json
from diptych.components import ADDED, Component, type_name
from diptych.errors import ConfigError
from diptych.named import check_named

T = TypeVar("T")
_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    dict: "an object with names and values",
}
"""What types are called in messages."""


def to_dict(config: Any, retired: bool = False) -> dict[str, Any]:
    """Plain dictionaries, lists, strings and numbers; nested configurations carry their `type`.

    With `retired` also the fields that a `Component` has no more, at the values that mean what it
    means today: the same configuration is then the same text, whichever version writes it. So a
    field that was `ADDED` is left out at its default.

    >>> from diptych.config import AugmentConfig
    >>> from diptych.config.serialize import to_dict
    >>> to_dict(AugmentConfig(flip=0.5))["flip"]
    0.5
    """
    values: dict[str, Any] = {"type": type_name(type(config))}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not (ADDED.items() <= field.metadata.items() and value == field.default):
            values[field.name] = _plain(value, retired)
    if retired and isinstance(config, Component):
        values.update(config.retired)
    return values


def _plain(value: Any, retired: bool) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value, retired)
    if isinstance(value, tuple | list):
        return [_plain(item, retired) for item in value]
    return value


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """The configuration that `to_dict` wrote.

    Raises ConfigError for an unknown field or a value of the wrong type, naming it.
    """
    return _read(kind, values, kind.__name__)


def read_as(kind: Any, value: Any, where: str) -> Any:
    """A value from JSON as the type `kind` (of dataclasses, TypedDicts, lists, tuples, numbers and
    texts) has it; `where` names it in messages. Raises ConfigError for another.

    >>> from diptych.config.serialize import read_as
    >>> read_as(dict[str, float], {"top1": 1}, "metrics")
    {'top1': 1.0}
    """
    return _read(kind, value, where)


def to_json(config: Any, retired: bool = False) -> str:
    """`to_dict`, indented."""
    return json.dumps(to_dict(config, retired), indent=2) + "\n"


def from_json(kind: type[T], text: str) -> T:
    """The configuration that `to_json` wrote. Raises ConfigError if it isn't JSON or doesn't
    fit."""
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ConfigError(f"not a saved {kind.__name__}: {error}") from error
    return from_dict(kind, values)


def override(config: T, path: str, value: Any) -> T:
    """A copy in which the field at the dotted `path` has another value.

    >>> from diptych.config import DataConfig
    >>> from diptych.config.serialize import override
    >>> override(DataConfig(), "augment.flip", 0.5).augment.flip
    0.5
    """
    head, _, rest = path.partition(".")
    names = [field.name for field in dataclasses.fields(typing.cast(Any, config))]
    if head not in names:
        raise ConfigError(
            f"{type(config).__name__} has no field {head!r}; it has {', '.join(names)}"
        )
    if rest:
        value = override(getattr(config, head), rest, value)
    return dataclasses.replace(typing.cast(Any, config), **{head: value})


def difference(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted path -> (old, new) of every value that differs.

    >>> from diptych.config import OptimConfig
    >>> from diptych.config.serialize import difference
    >>> difference(OptimConfig(lr=1e-3), OptimConfig(lr=5e-4))
    {'lr': (0.001, 0.0005)}
    """
    before, after = dict(_leaves(to_dict(old))), dict(_leaves(to_dict(new)))
    paths = list(before) + [path for path in after if path not in before]
    return {p: (before.get(p), after.get(p)) for p in paths if before.get(p) != after.get(p)}


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and "type" in value:
            yield from _leaves(value, f"{prefix}{name}.")
        elif name != "type":
            yield prefix + name, value


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, value, where)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if typing.is_typeddict(kind):
        return _read_fields(kind, value, where)
    if origin is tuple:
        return _read_tuple(arguments, value, where)
    if origin is list:
        return list(_read_tuple((arguments[0], ...), value, where))
    if origin is dict and isinstance(value, dict):
        return {name: _read(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where} is {value!r}; it can be {', '.join(map(repr, arguments))}")
        return value
    expected = origin or kind
    if expected is float and type(value) is int:
        if abs(value) > sys.float_info.max:
            raise ConfigError(f"{where} is too large a number")
        return float(value)
    if expected is not Any and (
        not isinstance(value, expected) or (type(value) is bool and expected is not bool)
    ):
        raise ConfigError(
            f"{where} is {value!r}; it must be {_KINDS.get(expected, expected.__name__)}"
        )
    return value


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    first, *others = (kind for kind in kinds if kind is not type(None))
    if others:  # one text, or several; classes that are possible in one place share a base instead
        assert first is str
        return _read(str if isinstance(value, str) else others[0], value, where)
    return _read(first, value, where)


def _read_fields(kind: Any, value: Any, where: str) -> dict[str, Any]:
    """A TypedDict; fields that it doesn't know pass as they are."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}; it must be {_KINDS[dict]}")
    if missing := sorted(kind.__required_keys__ - set(value)):
        raise ConfigError(f"{where} lacks {missing[0]!r}")
    hints = typing.get_type_hints(kind)
    return {
        name: _read(hints.get(name, Any), item, f"{where}.{name}") for name, item in value.items()
    }


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}; it must be {_KINDS[dict]}")
    if issubclass(kind, Component):
        kind = _chosen(kind, value, where)
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    types_of = {field.name: hints[field.name] for field in fields}
    passed_over = {"type", *(kind.retired if issubclass(kind, Component) else ())}
    values = {name: item for name, item in value.items() if name not in passed_over}
    unknown = sorted(set(values) - set(types_of))
    if unknown:
        raise ConfigError(f"{where} has no field {unknown[0]!r}; it has {', '.join(types_of)}")
    read = {name: _read(types_of[name], item, f"{where}.{name}") for name, item in values.items()}
    if missing := [field.name for field in fields if _needed(field, values)]:
        raise ConfigError(f"{where} lacks {missing[0]!r}")
    return kind(**read)


def _needed(field: dataclasses.Field[Any], values: Mapping[str, Any]) -> bool:
    """Whether the values must give it, and don't."""
    optional = {field.default, field.default_factory} != {dataclasses.MISSING}
    return field.init and field.name not in values and not optional


def _chosen(kind: type[Component], value: dict[str, Any], where: str) -> type[Component]:
    """The class that `type` names: `kind` or one below it."""
    name = value.get("type", "")
    if not name and "implementation" in vars(kind):
        return kind
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where} doesn't say its type")
    # A file of code is named on the command line alone: what lies beside weights is never run.
    if name.rpartition(":")[0].endswith(".py"):
        raise ConfigError(f"{where} is a {name}: a saved type names a module, package.module:Class")
    try:
        if ":" in name:
            check_named(name)
        return kind.named(name)
    except ConfigError as error:
        what = where if ":" in name else f"{where} is a {name}"  # the sentence says a path itself
        raise ConfigError(f"{what}: {error}") from error


def _read_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where} is {value!r}; it must be a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ConfigError(f"{where} has {len(value)} values; it takes {len(kinds)}")
    return tuple(
        _read(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value))
    )
