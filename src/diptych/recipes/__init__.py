"""Complete experiments: functions that return a Run. The docstring is the command, the hardware,
the expected result.

    run = recipes.get("tiny-digits")
    run = replace(run, steps=100)

A recipe's name is its function's, with dashes; `package.module:function` means anybody's. Ours
stand in the families' `recipes` modules. None imports torch.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from diptych.components import import_object
from diptych.config import Run
from diptych.errors import ConfigError, UnknownNameError
from diptych.families import families

__all__ = ["describe", "get", "names"]

Recipe = Callable[[], Any]


def names() -> list[str]:
    """All recipes that have names, small ones first.

    >>> from diptych import recipes
    >>> recipes.names()[:2]
    ['tiny-digits', 'tiny-cifar10']
    """
    return list(_recipes())


def get(name: str) -> Run:
    """The Run of that name; dashes and underscores are the same. `package.module:function` or
    `file.py:function` means a function without arguments, or a Run.

    Raises UnknownNameError with near misses, and ConfigError for what gives no Run.

    >>> from diptych import recipes
    >>> recipes.get("clip_vit_b_32").model.name
    'vit-b-32'
    """
    recipe = _find(name)
    run: object = recipe if isinstance(recipe, Run) else recipe()
    if not isinstance(run, Run):
        raise ConfigError(f"the recipe {name} gives a {type(run).__name__}; it must return a Run")
    return run


def describe(name: str) -> str:
    """What the recipe does: its docstring. Raises as `get`.

    >>> from diptych import recipes
    >>> recipes.describe("tiny-digits").splitlines()[0]
    'The run of `diptych demo`: coloured handwritten digits, from nothing, on two CPU cores.'
    """
    recipe = _find(name)
    return f"The Run {name}." if isinstance(recipe, Run) else inspect.getdoc(recipe) or ""


def _find(name: str) -> Recipe | Run:
    if ":" in name:
        found: Any = import_object(name)
        if not isinstance(found, Run) and not inspect.isroutine(found):
            raise ConfigError(f"{name} is no recipe: it must be a function that returns a Run")
        return found
    key = name.lower().replace("_", "-")
    if key not in _recipes():
        raise UnknownNameError("recipe", name, _recipes())
    return _recipes()[key]


@functools.cache
def _recipes() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for family in families():
        for module in family.recipes:
            for name, recipe in _of_module(module).items():
                found.setdefault(name, recipe)  # a package's recipe doesn't take a name of ours
    return found


def _of_module(name: str) -> dict[str, Recipe]:
    """The recipes that a module defines, in its order: its public functions that return a Run."""
    module = importlib.import_module(name)
    found: dict[str, Recipe] = {}
    for title, function in vars(module).items():
        if not inspect.isfunction(function):
            continue
        own = function.__module__ == name and not title.startswith("_")
        if own and function.__annotations__.get("return") is Run:
            found[title.replace("_", "-")] = function
    return found
