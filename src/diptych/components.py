"""Objects by import path, and configurations that name what they build.

Nothing in Diptych is closed by a list of classes: a configuration is a frozen dataclass below
`Component` that names its implementation, and a subclass in anybody's file works wherever ours do.
Implementations are imported when they are needed, so configurations stay free of torch.
"""

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar, TypeVar, cast

from diptych.errors import ConfigError, UnknownNameError, first_line

ADDED = MappingProxyType({"added": True})
"""Metadata of a field that older versions' files lack. At its default it isn't written: what they
could say already keeps its text, and with it its fingerprint."""
_OURS = "diptych."
C = TypeVar("C", bound="Component")


class Component:
    """The base of all configurations that build something.

    A subclass is a frozen, keyword-only dataclass that names its `implementation`. One that
    doesn't is an error where it is defined: it would build what its parent builds.

    >>> from dataclasses import dataclass
    >>> from diptych.components import Component, implementation
    >>> @dataclass(frozen=True, kw_only=True)
    ... class CounterConfig(Component):
    ...     implementation = "collections:Counter"
    >>> implementation(CounterConfig()).__name__
    'Counter'
    """

    implementation: ClassVar[str]
    """`package.module:Name` of what is built; it is imported when it is built."""
    catalogue: ClassVar[str] = ""
    """Of an abstract base: `package.module:function` of a function that gives the subclasses which
    have short names: the class's own, as saved in JSON, and `alias`, as people type it."""
    alias: ClassVar[str] = ""
    """A short name for the command line, such as `siglip`; empty: it has none."""
    retired: ClassVar[Mapping[str, object]] = MappingProxyType({})
    """Fields that older files have, and the values that mean what is meant today: they are passed
    over when a file is read."""

    def __init_subclass__(cls, abstract: bool = False, **options: Any):
        super().__init_subclass__(**options)
        if not abstract and "implementation" not in vars(cls):
            parents = (kind.__qualname__ for kind in cls.__mro__ if "implementation" in vars(kind))
            built = f"what {parent} builds" if (parent := next(parents, "")) else "nothing"
            raise ConfigError(
                f"{cls.__qualname__} names no implementation of its own, so it would build "
                f'{built}; add a line such as implementation = "{cls.__module__}:NameOfTheClass"'
            )

    @classmethod
    def kinds(cls: type[C]) -> dict[str, type[C]]:
        """Subclasses of this base by class name: ours, and those of installed packages that have
        other names."""
        found: dict[str, type[C]] = {}
        for kind in import_object(cls.catalogue)() if cls.catalogue else ():
            if issubclass(kind, cls):
                found.setdefault(kind.__name__, kind)
        return found

    @classmethod
    def named(cls: type[C], name: str) -> type[C]:
        """The subclass that `name` means: `package.module:Class`, `file.py:Class`, a class name or
        a short name of ours.

        Raises UnknownNameError with near misses, and ConfigError for what can't be imported or is
        no such configuration.
        """
        if ":" in name:
            return subclass_of(cls, import_object(name), name)
        kinds = cls.kinds()
        # A subclass doesn't inherit its parent's alias: that would be two with one name.
        short = {kind.alias: kind for kind in kinds.values() if vars(kind).get("alias")}
        found = (short | kinds).get(name)
        if found is None:
            raise UnknownNameError(kind_of(cls), name, short or kinds)
        return found


def kind_of(base: type[Component]) -> str:
    """What people call a configuration of this base.

    >>> from diptych.components import kind_of
    >>> from diptych.config import ImageTowerConfig
    >>> kind_of(ImageTowerConfig)
    'image tower'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", base.__name__.removesuffix("Config")).lower()


def type_name(config: type[Any]) -> str:
    """How a configuration's class is written in JSON: ours by name, others by import path. What the
    script that runs defines is written by the script's name, by which another script finds it.

    >>> from diptych.components import type_name
    >>> from diptych.config import OptimConfig
    >>> type_name(OptimConfig)
    'OptimConfig'
    """
    if config.__module__.startswith(_OURS):
        return config.__name__
    return f"{_module_name(config)}:{config.__qualname__}"


def _module_name(kind: type[Any]) -> str:
    if kind.__module__ != "__main__":
        return kind.__module__
    main = sys.modules["__main__"]
    if main.__spec__ is not None:  # python -m package.module
        return main.__spec__.name
    file = vars(main).get("__file__")  # a notebook has none
    return Path(file).stem if file else "__main__"


def implementation(config: Component) -> Any:
    """What a configuration builds: the class or function that its `implementation` names."""
    return import_object(config.implementation)


def subclass_of(base: type[Any], found: object, name: str) -> Any:
    """`found` if it is a subclass of `base`; else raises ConfigError."""
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{name} is no {base.__name__}: it must be a class that inherits from it")
    return found


def import_object(path: str) -> Any:
    """What `package.module:name` or `folder/file.py:name` names. A file's folder becomes a place
    from which modules are imported, the last one, so that what was saved by name loads again.

    Raises ConfigError, in one sentence, for what can't be found or fails to be imported.

    >>> from diptych.components import import_object
    >>> import_object("math:floor")(1.5)
    1
    """
    place, _, name = path.rpartition(":")
    if not place or not name:
        raise ConfigError(f"{path!r} names no object; write package.module:Name or file.py:Name")
    module = _import_file(place) if place.endswith(".py") else import_module(place, path)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            near = UnknownNameError(f"object in {place}", name, _public(module))
            raise ConfigError(str(near)) from None
    return found


def _public(module: ModuleType) -> Iterable[str]:
    return [name for name in vars(module) if not name.startswith("_")]


def import_module(name: str, path: str) -> ModuleType:
    """The module; `path` is what asked for it, for messages. Raises ConfigError as
    `import_object`."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        hint = f"install it, or put the folder of {name.partition('.')[0]} on PYTHONPATH"
        if error.name and not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{path} needs the module {error.name}, which is missing") from error
        raise ConfigError(f"{path} can't be imported: there is no module {name}; {hint}") from error
    except Exception as error:  # whatever somebody's module raises while it is imported
        raise ConfigError(f"{path} can't be imported: {reason(error)}") from error


def _import_file(place: str) -> ModuleType:
    file = Path(place).expanduser().resolve()
    if not file.is_file():
        raise ConfigError(f"there is no file {place}")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    module = import_module(file.stem, place)
    if Path(module.__file__ or "").resolve() != file:
        raise ConfigError(
            f"{place} has the name of another module, {module.__file__}; give the file another name"
        )
    return module


def reason(error: BaseException) -> str:
    """What somebody's code raised, in a few words.

    >>> from diptych.components import reason
    >>> reason(ZeroDivisionError("division by zero"))
    'ZeroDivisionError: division by zero'
    """
    return f"{type(error).__name__}: {first_line(error)}"


def callable_of(path: str, what: str) -> Callable[..., Any]:
    """The function that `path` names. Raises ConfigError for anything else.

    >>> from diptych.components import callable_of
    >>> callable_of("math:floor", what="rounding")(1.5)
    1
    """
    found = import_object(path)
    if not callable(found):
        raise ConfigError(f"{path} is no {what}: it must be a function")
    return cast(Callable[..., Any], found)
