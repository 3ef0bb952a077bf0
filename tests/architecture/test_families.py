"""What a family may import and who may name it; what stays free of torch."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import diptych
from diptych.families import BUILT_IN, families

ROOT = Path(diptych.__file__).parent
FAMILIES = ROOT / "families"
FILES = sorted(FAMILIES.glob("*/**/*.py"))
NAMERS = ("compat", "experiments")
"""Rooms that are about particular models: the spellings of others' code, and the demonstrations."""


def module_name(path: Path) -> str:
    parts = ("diptych", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """The modules that a file imports from, and strings that look like import paths."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            found.add(node.value.partition(":")[0])
    return found


def families_in(names: set[str]) -> set[str]:
    parts = (name.split(".") for name in names if name.startswith("diptych.families."))
    return {part[2] for part in parts} & set(BUILT_IN)


def test_every_folder_is_a_family_and_every_family_a_folder():
    folders = {path.parent.name for path in FAMILIES.glob("*/__init__.py")}
    assert folders == set(BUILT_IN)
    assert [family.name for family in families()][: len(BUILT_IN)] == list(BUILT_IN)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FAMILIES)))
def test_a_family_imports_itself_and_clip_and_of_others_the_towers_configurations(path):
    own = path.relative_to(FAMILIES).parts[0]
    for family in families_in(names := imported(path)) - {own, "clip"}:
        package = f"diptych.families.{family}"
        towers = importlib.import_module(package).FAMILY.towers
        shown = {f"{package}.{tower.__name__}" for tower in towers}
        assert {name for name in names if name.startswith(f"{package}.")} <= shown


def test_families_build_on_each_other_in_one_direction():
    """A folder can be read before those that build on it. CLIP's builds on none."""
    graph = {name: set[str]() for name in BUILT_IN}
    for path in FILES:
        own = path.relative_to(FAMILIES).parts[0]
        graph[own] |= families_in(imported(path)) - {own}
    assert not graph["clip"]
    while free := [name for name, others in graph.items() if not others & set(graph)]:
        for name in free:
            del graph[name]
    assert not graph


def test_nobody_outside_names_a_family():
    outside = [path for path in ROOT.rglob("*.py") if FAMILIES not in path.parents]
    named = {
        str(path.relative_to(ROOT)): families_in(imported(path))
        for path in outside
        if path.relative_to(ROOT).parts[0] not in NAMERS
    }
    assert not {path: found for path, found in named.items() if found}


OWN = {
    "UniRep": "unireplknet",
    "EvaConfig": "eva",
    "TimmTower": "timm",
    "HuggingFaceText": "huggingface",
    "LocalQueue": "declip",
    "CocaImage": "coca",
    "MammutText": "mammut",
    "PeImage": "pe",
    "MobileText": "mobileclip",
    "ClipaText": "clipa",
    "SiglipText": "siglip",
    "TipsText": "tips",
}


@pytest.mark.parametrize("word", OWN)
def test_a_familys_own_words_stand_in_its_folder_alone(word):
    found = [path for path in ROOT.rglob("*.py") if word in path.read_text()]
    assert {path.relative_to(ROOT).parts[:2] for path in found} == {("families", OWN[word])}


def test_names_configurations_and_recipes_import_no_torch():
    light = [
        "__init__",
        "config",
        "pretrained",
        "published_config",
        "recipes",
        "recipes_mim",
        "recipes_published",
    ]
    files = [path for path in FILES if path.stem in light and path.parent.parent == FAMILIES]
    files += [FAMILIES / name for name in ("__init__.py", "base.py", "entry.py")]
    files += [ROOT / "components.py", ROOT / "errors.py", ROOT / "recipes" / "__init__.py"]
    files += [*(ROOT / "config").glob("*.py"), *(ROOT / "pretrained").glob("*.py")]
    assert len(files) > 30
    code = (
        "import importlib, sys\n"
        f"for name in {sorted(map(module_name, files))}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
