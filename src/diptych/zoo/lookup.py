"""From a name, in whatever spelling, to a model."""

import fnmatch
import functools
import re

from diptych.config import ClipConfig
from diptych.errors import UnknownNameError
from diptych.zoo import openai, tiny
from diptych.zoo.entry import Entry


def names(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, in the order in which the families list them.

    >>> from diptych import zoo
    >>> zoo.names("vit-l-*")
    ['vit-l-14', 'vit-l-14-336', 'vit-l-14-quickgelu', 'vit-l-14-336-quickgelu']
    """
    return [name for name in _entries() if fnmatch.fnmatchcase(name, _plain(pattern))]


def entry(name: str) -> Entry:
    """What is known about a model. Raises UnknownNameError with near misses.

    >>> from diptych import zoo
    >>> zoo.entry("ViT-B/32-quickgelu").weights[0].repo
    'timm/vit_base_patch32_clip_224.openai'
    """
    found = _aliases().get(_plain(name))
    if found is None:
        raise UnknownNameError("model", name, _entries())
    return found


def get(name: str) -> ClipConfig:
    """The configuration of a model. Raises UnknownNameError with near misses.

    >>> from diptych import zoo
    >>> zoo.get("ViT-B/32").image.patch_size
    32
    """
    return entry(name).config


@functools.cache
def _entries() -> dict[str, Entry]:
    return {entry.name: entry for entry in (*openai.entries(), *tiny.entries())}


@functools.cache
def _aliases() -> dict[str, Entry]:
    return {_plain(alias): entry for entry in _entries().values() for alias in (entry.name, *entry.aliases)}


def _plain(name: str) -> str:
    """One spelling for all: `ViT-B/32`, `ViT_B_32` and `vit-b-32`; `ViT-L/14@336px` and `vit-l-14-336`."""
    return re.sub(r"px(?=-|$)", "", re.sub("[/_@]", "-", name.lower()))
