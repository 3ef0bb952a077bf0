"""`make test-lowest` tries the versions that pyproject.toml names, not later ones."""

import os
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def lower_bounds() -> dict[str, Version]:
    """Of the package and its extras, without itself, NLTK, which no test needs, and mteb, whose
    tests skip."""
    lines = list[str](PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        lines += extra
    bounds = dict[str, Version]()
    for requirement in map(Requirement, lines):
        if requirement.name not in ("diptych", "mteb", "nltk"):
            [bound] = requirement.specifier
            assert bound.operator in (">=", "=="), requirement
            bounds[requirement.name] = Version(bound.version)
    return bounds


def test_each_library_has_one_lower_bound():
    assert {"torch", "timm", "wandb", "av", "open_clip_torch"} <= set(lower_bounds())


@pytest.mark.skipif(not os.environ.get("DIPTYCH_LOWEST"), reason="`make test-lowest` runs it")
def test_what_is_tried_is_what_is_declared():
    bounds = lower_bounds()
    assert {name: Version(version(name)) for name in bounds} == bounds
