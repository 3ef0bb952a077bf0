"""The one direction of imports, the rooms' manners, and what no file may do (docs/concepts.md)."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import diptych

ROOT = Path(diptych.__file__).parent
RANKS = {
    -1: ["errors"],
    0: ["config"],
    1: ["zoo", "batch", "inputs", "nn", "distributed"],
    2: ["recipes", "models"],
    3: ["checkpoints", "objectives", "data", "optim"],
    4: ["encoder", "datasets"],
    5: ["evaluation", "search"],
    6: ["training", "reports"],
    7: ["app"],
    8: ["cli", "compat"],
}
RANK = {room: rank for rank, rooms in RANKS.items() for room in rooms}
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.parent != ROOT or path.stem in RANK]
ROOMS = sorted({path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES})


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def names(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    return [
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_rooms_of_a_lower_rank(path):
    own = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "diptych" or len(parts) == 1 or parts[1] in (own, "__version__"):
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
        assert not {"os.environ", "os.getenv", "sys.argv"} & set(names(path)), path
    if own != "cli":
        assert "print" not in names(path), path


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
    code = f"import sys, diptych.encoder, diptych.training; sys.exit(str([m for m in {heavy} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
