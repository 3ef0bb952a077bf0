"""Families of models, a folder each; other packages offer theirs by entry points.

To add one here: a folder with a `FAMILY` in it, and its name in `BUILT_IN`.
"""

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from diptych.components import Component, import_object, reason
from diptych.config import TowerConfig
from diptych.config.alone import NoImageTower, NoTextTower
from diptych.config.objective import OBJECTIVES
from diptych.config.taught import TAUGHT
from diptych.errors import ConfigError
from diptych.families.base import Family
from diptych.families.entry import Claim, Entry, Training, Weights

__all__ = [
    "Claim",
    "Entry",
    "Family",
    "Training",
    "Weights",
    "families",
    "layouts",
    "objective_configs",
    "tower_configs",
]

BUILT_IN = (
    "tiny",
    "clip",
    "eva",
    "unireplknet",
    "declip",
    "modern",
    "siglip",
    "tips",
    "pe",
    "genlip",
    "metaclip",
    "clipa",
    "mobileclip",
    "coca",
    "mammut",
    "timm",
    "huggingface",
)
"""In the order in which models and recipes are listed."""
GROUP = "diptych.families"
"""The entry points by which other packages offer families."""


@functools.cache
def families() -> tuple[Family, ...]:
    """All families: ours, then those of installed packages.

    Raises ConfigError for a package whose entry point names no family.

    >>> from diptych.families import families
    >>> [family.name for family in families()][:3]
    ['tiny', 'clip', 'eva']
    """
    ours = [import_object(f"diptych.families.{name}:FAMILY") for name in BUILT_IN]
    return (*ours, *map(_load, entry_points(group=GROUP)))


def _load(point: EntryPoint) -> Family:
    package = point.dist.name if point.dist else point.value
    try:
        found = point.load()
    except Exception as error:  # whatever somebody's package raises while it is imported
        raise ConfigError(
            f"the family {point.name} of the package {package} can't be imported "
            f"({reason(error)}); update or uninstall the package"
        ) from error
    if not isinstance(found, Family):
        raise ConfigError(
            f"{point.value} of the package {package} is no diptych.families.Family; update or "
            "uninstall the package"
        )
    return found


def tower_configs() -> list[type[TowerConfig]]:
    """The configurations of all families' towers; last, those of what isn't there.

    >>> from diptych.families import tower_configs
    >>> [kind.__name__ for kind in tower_configs()][:3]
    ['VitConfig', 'ResNetConfig', 'TextConfig']
    """
    found: list[type[TowerConfig]] = []
    for family in families():
        found += family.towers
    return [*found, NoImageTower, NoTextTower]


def objective_configs() -> list[type[Component]]:
    """The configurations of all objectives and of their parts: the general ones first."""
    found = [*OBJECTIVES, *TAUGHT]
    for family in families():
        found += family.part(family.objectives)
    return found


@functools.cache
def layouts() -> tuple[Any, ...]:
    """All layouts of weights (`weights.layout.Layout`), in the order in which they are tried: of
    two that share names the more particular one first.

    >>> from diptych.families import layouts
    >>> [layout.name for layout in layouts()][:3]
    ['unireplknet', 'siglip-transformers', 'pe']
    """
    found: list[Any] = []
    for family in families():
        found += family.part(family.layouts)
    return tuple(sorted(found, key=lambda layout: -layout.priority))
