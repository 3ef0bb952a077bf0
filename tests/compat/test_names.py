"""open_clip 3.3's public names, each in compat, in every module that has it, or on the list of
docs/compat.md with a reason: scripts import a name from wherever they found it."""

import importlib.util
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import open_clip
import pytest

from diptych import compat

DOCS = (Path(__file__).parents[2] / "docs" / "compat.md").read_text()
ABSENT = re.search(r"^## Names of open_clip's that aren't here$(.+?)^## ", DOCS, re.M | re.S)[1]
PACKAGES = {"open_clip": "diptych.compat", "open_clip_train": "diptych.compat.open_clip_train"}
MODULES = [
    (package, module.name)
    for package in PACKAGES
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
    if not module.ispkg
]
CONSTANTS = ("open_clip", "open_clip.constants", "open_clip.zero_shot_metadata")
"""Modules whose own constants are looked for: others import them."""


def absent() -> dict[str, set[str]]:
    """By module, what the list names: single names, or `all` of a module."""
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \| .+ \|$", ABSENT, re.MULTILINE)
    return {module: set(re.findall(r"`(\w+)`", names)) or {"all"} for module, names in rows}


def own_names(module: ModuleType) -> set[str]:
    """Public names that open_clip's code defines, or that its `__init__` lists."""
    found = {"__version__"} if module.__name__ in ("open_clip", "open_clip.version") else set[str]()
    with_constants = module.__name__ in CONSTANTS
    for name, value in vars(module).items():
        where = str(getattr(value, "__module__", ""))
        constant = with_constants and not where and name.isupper()
        if constant or (where.startswith("open_clip") and not name.startswith("_")):
            found.add(name)
    return found


def test_the_package_has_every_name():
    missing = {name for name in own_names(open_clip) if not hasattr(compat, name)}
    assert not missing
    assert len(own_names(open_clip)) > 45


@pytest.mark.parametrize(("package", "module"), MODULES)
def test_every_module_has_its_names_or_the_list_says_why_not(package, module):
    theirs = importlib.import_module(f"{package}.{module}")
    listed = absent().get(f"{package}.{module}".removeprefix("open_clip."), set())
    if "all" in listed:
        assert importlib.util.find_spec(f"{PACKAGES[package]}.{module}") is None
        return
    ours = importlib.import_module(f"{PACKAGES[package]}.{module}")
    missing = {name for name in own_names(theirs) if not hasattr(ours, name)}
    assert missing == listed


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("factory", "get_tokenizer create_loss list_models load_checkpoint load_state_dict"),
        ("factory", "add_model_config get_model_config create_model create_model_and_transforms"),
        ("model", "CLIP convert_weights_to_lp get_cast_dtype trace_model set_model_preprocess_cfg"),
        ("openai", "load_openai_model list_openai_models"),
        ("tokenizer", "HFTokenizer SigLipTokenizer tokenize DEFAULT_CONTEXT_LENGTH"),
        ("transformer", "VisionTransformer TextTransformer ResidualAttentionBlock LayerNormFp32"),
        ("push_to_hf_hub", "push_to_hf_hub save_for_hf generate_readme"),
    ],
)
def test_what_scripts_import_from_modules(module, names):
    ours = importlib.import_module(f"diptych.compat.{module}")
    theirs = importlib.import_module(f"open_clip.{module}")
    for name in names.split():
        assert hasattr(theirs, name), name
        assert hasattr(ours, name), name
