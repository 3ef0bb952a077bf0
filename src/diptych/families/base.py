"""What a family of models is to Diptych: one published line, and all that belongs to it."""

from dataclasses import dataclass
from typing import Any, cast

from diptych.components import import_object
from diptych.config import TowerConfig
from diptych.families.entry import Entry


@dataclass(frozen=True, kw_only=True)
class Family:
    """One published line of models. Its parts are named by import path (`package.module:name`) and
    imported when they are asked for, so that listing names imports no torch; empty: it has none.

    A package of somebody else offers its own by an entry point of the group `diptych.families`.

    >>> from diptych.families.clip import FAMILY
    >>> FAMILY.name, [kind.__name__ for kind in FAMILY.towers]
    ('clip', ['VitConfig', 'ResNetConfig', 'TextConfig'])
    >>> FAMILY.entries()[0].name
    'vit-b-32'
    """

    name: str
    towers: tuple[type[TowerConfig], ...] = ()
    """Configurations of its own kinds of towers."""
    pretrained: str = ""
    """A function that gives its published models, a list of `Entry`."""
    repositories: str = ""
    """A function that gives further weights on the hub, a tuple of (`model/tag`, `Weights`): names
    of other libraries for repositories that say themselves how their model is built."""
    recipes: tuple[str, ...] = ()
    """Modules of which every public function that returns a `Run` is a recipe, named as the
    function with dashes for underscores."""
    layouts: str = ""
    """A function that gives its layouts of weights, a tuple of `weights.layout.Layout`."""
    open_clip: str = ""
    """A tuple of `families.clip.layouts.towers.OpenClipTower`: how open_clip names and configures
    towers of this family."""
    objectives: str = ""
    """A tuple of configurations of objectives, and of their parts, that are the family's own."""
    upgrade: str = ""
    """A function from the dictionary of an objective that an older version wrote to today's; others
    come back as they are."""

    def entries(self) -> list[Entry]:
        """Its published models."""
        return import_object(self.pretrained)() if self.pretrained else []

    def part(self, path: str) -> tuple[Any, ...]:
        """What a path of this family names; empty where there is none. Functions are called."""
        if not path:
            return ()
        found = import_object(path)
        return cast(tuple[Any, ...], found() if callable(found) else found)
