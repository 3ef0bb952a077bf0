"""Which modules a file may name: what is saved by import path is imported, and so run, when the
file is read; the file may be a stranger's.

A module that is imported already may be named. Another one is looked at before it is imported: it
has to be written for Diptych (its source imports diptych and defines the class), and to lie where
the user put it: among installed packages, on PYTHONPATH, in the folder of the script that runs. Not
in the folder where a session without a script happens to be, where downloads lie, and not beside a
model.
"""

import ast
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

from diptych.errors import ConfigError

_MARKS = ("model.json", "run.json")
"""Files of a model and of a run: what names modules."""


def check_named(path: str) -> None:
    """Raises ConfigError unless a file may have `package.module:Name` imported. One of which there
    is nothing, not even the package, is left to the import, which says so.

    >>> from diptych.named import check_named
    >>> check_named("diptych.config:Run")
    >>> check_named("antigravity:fly")
    Traceback (most recent call last):
    ...
    diptych.errors.ConfigError: the module antigravity isn't imported because a file names it: \
it isn't written for Diptych, or doesn't define fly; if it is to be trusted, import it first \
(DIPTYCH_IMPORT=antigravity on the command line)
    """
    module, _, name = path.rpartition(":")
    top, *inner = module.split(".")
    if module in sys.modules or top in ("", "diptych") or not (spec := _spec(top)):
        return
    source = _source(spec, inner)
    if why := _refusal(source, len(inner), name.partition(".")[0]):
        raise ConfigError(
            f"the module {module} isn't imported because a file names it: {why}; if it is to be "
            f"trusted, import it first (DIPTYCH_IMPORT={module} on the command line)"
        )


def _spec(top: str) -> ModuleSpec | None:
    found = (finder.find_spec(top, None, None) for finder in sys.meta_path)
    return next(filter(None, found), None)


def _source(top: ModuleSpec, inner: Sequence[str]) -> Path | None:
    """The module's file below its package, without importing the package as `find_spec` would."""
    source, places = Path(top.origin or ""), list(top.submodule_search_locations or ())
    for part in inner:
        tried = [Path(place, part) for place in places if part.isidentifier()]
        files = [path / "__init__.py" for path in tried] + [
            path.with_suffix(".py") for path in tried
        ]
        source = next(filter(Path.is_file, files), Path())
        places = [str(path) for path in tried if path.is_dir()]
    return source.resolve() if source.suffix == ".py" else None


def _refusal(source: Path | None, depth: int, name: str) -> str:
    """Why a module `depth` packages deep may not be imported; empty: it may."""
    if source is None or not _written_for_us(source, name):
        return f"it isn't written for Diptych, or doesn't define {name}"
    folders = source.parents[: depth + 1 + (source.name == "__init__.py")]
    said = {Path(place).resolve() for place in sys.path if place}  # "" is wherever we are
    if folders[-1] == Path.cwd() and Path.cwd() not in said:
        return "it lies in the current folder"
    for folder in folders:
        if any((folder / mark).is_file() for mark in _MARKS):
            return f"it lies beside a model, in {folder}"
    return ""


def _written_for_us(source: Path, name: str) -> bool:
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return False
    imported = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    return "diptych" in imported and name in defined
