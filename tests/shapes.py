"""Shapes in signatures are enforced under pytest: wrong ones fail here, and cost nothing in use."""

import inspect
from collections.abc import Callable
from pathlib import Path

from beartype import beartype
from jaxtyping import install_import_hook

SOURCES = Path(__file__).parents[1] / "src"


def enforce() -> None:
    """In what is imported from now on."""
    install_import_hook(_modules(), f"{__name__}.checked")


def _modules() -> list[str]:
    """Of the package. The others' types are pyright's to check: here each of their calls would be
    looked at twice, a quarter of the time that all tests take."""
    files = [file for file in SOURCES.rglob("*.py") if "jaxtyping" in file.read_text("utf-8")]
    return [".".join(file.relative_to(SOURCES).with_suffix("").parts) for file in files]


def checked(function: Callable) -> Callable:
    """The function with its arguments checked, if one of them or what it returns has a shape: it
    takes milliseconds to make one."""
    hints = inspect.get_annotations(function).values()
    return beartype(function) if any("jaxtyping." in str(hint) for hint in hints) else function
