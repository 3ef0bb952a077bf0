"""The one direction of imports, the rooms' manners, and what no file may do (docs/concepts.md)."""

import ast
import functools
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import diptych

ROOT = Path(diptych.__file__).parent
RANKS = {
    0: ["bounded", "cells", "durable", "errors", "exit_codes", "interrupts", "terminal", "version"],
    1: ["arrays", "components", "named", "threads", "writable"],
    2: ["config"],
    3: ["batch", "inputs", "nn", "distributed", "similarity"],
    4: ["models"],
    5: ["weights", "objectives", "data", "optim"],
    6: ["families"],
    7: ["pretrained", "recipes"],
    8: ["checkpoints"],
    9: ["export"],
    10: ["encoder", "datasets"],
    11: ["diagnosis", "evaluation", "search"],
    12: ["training", "reports"],
    13: ["app", "experiments"],
    14: ["cli"],
    15: ["compat"],
    16: ["__init__", "__main__"],
}
RANK = {room: rank for rank, rooms in RANKS.items() for room in rooms}
FILES = sorted(ROOT.rglob("*.py"))
ROOMS = sorted({path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES})


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@functools.cache
def names(path: Path) -> set[str]:
    return {dotted for node in ast.walk(tree(path)) if (dotted := _dotted(node))}


def _dotted(node: ast.AST) -> str:
    """`a` and `a.b`, as it stands there; of anything else nothing."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_rooms_of_a_lower_rank(path):
    own = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "diptych" or len(parts) == 1 or parts[1] == own:
            continue
        assert parts[1] in RANK, f"{path} imports {name}"
        assert RANK[parts[1]] < RANK[own], (
            f"{own} (rank {RANK[own]}) imports {name} (rank {RANK[parts[1]]})"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_processes_and_the_environment_are_known_to_few(path):
    own = room(path)
    if own != "distributed":
        assert not [name for name in imports(path) if name.startswith("torch.distributed")], path
    if own not in ("distributed", "cli"):
        assert not {"os.environ", "os.getenv", "sys.argv"} & names(path), path
    if own != "cli":
        assert "print" not in names(path), path


_OWN_FILES = {
    *("cli/train.py", "data/spool.py", "training/callbacks.py"),
    *("training/metrics.py", "interrupts.py", "distributed/watch.py", "named.py"),
    *("app/build.py", "compat/listing.py", "data/wordnet.py", "datasets/class_names.py"),
    *("datasets/published.py", "inputs/text_augment.py", "inputs/vocabulary.py"),
    *("pretrained/sizes.py", "compat/tokenizers/simple.py", "data/shards.py"),
}
"""They read whole what Diptych wrote or the system says, what comes with the package, and what
Python's callers give."""


def test_what_somebody_names_is_read_within_limits():
    """`Path.read_text` waits for ever at a pipe, and takes all memory for a device."""
    found = {path for path in FILES if any(map(_reads_whole, ast.walk(tree(path))))}
    assert {path.relative_to(ROOT).as_posix() for path in found} == _OWN_FILES


def _reads_whole(node):
    """Whether it calls such a method, which a model has, too."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    owner = ast.unparse(node.func.value) if node.func.attr in ("read_text", "read_bytes") else ""
    return owner not in ("", "model", "self", "self.model")


def test_no_module_imports_itself_by_a_circle():
    """Imports inside functions and for type checkers included: a circle is two files that can only
    be read together."""
    modules = {module_name(path): path for path in FILES}
    graph = {name: targets(path, set(modules)) - {name} for name, path in modules.items()}
    # What imports nothing of the rest can be in no circle; what stays after all such are taken away
    # is a circle, or leads to one.
    while free := [name for name, imported in graph.items() if not imported & set(graph)]:
        for name in free:
            del graph[name]
    left = {name: sorted(imported & set(graph)) for name, imported in graph.items()}
    assert not left


def module_name(path: Path) -> str:
    parts = ("diptych", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def targets(path: Path, modules: set[str]) -> set[str]:
    """The modules that this one names; of `from a import b`, `a.b` if that is one, else `a`."""
    found = {name if name in modules else name.rpartition(".")[0] for name in imports(path)}
    return found & modules


@pytest.mark.parametrize("name", [r for r in ROOMS if (ROOT / r / "__init__.py").exists()])
def test_a_room_lists_what_it_offers(name):
    module = importlib.import_module(f"diptych.{name}")
    assert module.__doc__
    assert list(module.__all__) == sorted(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None


def test_every_public_name_of_the_package_resolves_and_is_documented():
    assert diptych.__all__ == sorted(diptych.__all__)
    for public in diptych.__all__:
        assert getattr(diptych, public).__doc__, public


def test_importing_the_package_has_no_side_effect():
    code = (
        "import sys; before = list(sys.meta_path), list(sys.path_hooks); import diptych; "
        "sys.exit(before != (sys.meta_path, sys.path_hooks))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "statement", ["import diptych", "import diptych.config, diptych.pretrained, diptych.recipes"]
)
def test_names_and_configurations_do_not_import_torch(statement):
    code = f"import sys; {statement}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_using_a_model_does_not_import_what_it_does_not_need():
    heavy = [
        "torchvision",
        "timm",
        "transformers",
        "matplotlib",
        "sklearn",
        "pyarrow",
        "tyro",
        "pandas",
    ]
    code = (
        "import sys, diptych.encoder, diptych.training; "
        f"sys.exit(str([m for m in {heavy} if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
