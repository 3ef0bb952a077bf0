"""Pages of the Python reference: the public names of each room, from their docstrings."""

import importlib
import inspect
from types import ModuleType

from docs._make.examples import fenced

_ROOMS = (
    *("diptych", "encoder", "search", "evaluation", "datasets", "training", "recipes", "config"),
    *("data", "objectives", "models", "optim", "inputs", "pretrained", "families", "weights"),
    *("checkpoints", "diagnosis"),
)
"""In the order of the navigation."""


def names() -> list[str]:
    """The modules."""
    return [room if room == "diptych" else f"diptych.{room}" for room in _ROOMS]


def page_of(name: str) -> str:
    """Where its page stands in the site."""
    return f"python/{name}.md"


def text_of(name: str) -> str:
    """The page: what the module is for, then each of its names."""
    module = importlib.import_module(name)
    said = inspect.getdoc(module) or ""
    public = [each for each in module.__all__ if not inspect.ismodule(getattr(module, each))]
    # What the package itself shows stands on its own page alone.
    shown = set(importlib.import_module("diptych").__all__) if name != "diptych" else set[str]()
    blocks = [f"::: {_place(module, each)}" for each in public if each not in shown]
    return "\n\n".join([f"# {name}", fenced(said), *blocks]) + "\n"


def _place(module: ModuleType, name: str) -> str:
    """Where it is defined: `diptych.search.update` would be the file of the function."""
    item = getattr(module, name)
    defined = inspect.isclass(item) or inspect.isfunction(item)
    return f"{item.__module__}.{name}" if defined else f"{module.__name__}.{name}"
