"""From a name, in whatever spelling, to a model."""

import difflib
import fnmatch
import functools
import itertools
import re
from typing import NamedTuple

from diptych.components import import_object
from diptych.config import ClipConfig, ImageTowerConfig
from diptych.errors import ConfigError, UnknownNameError
from diptych.families import Entry, Weights, families


class _Found(NamedTuple):
    entry: Entry
    weights: Weights | None


def names(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, in the order in which the families list them.

    >>> from diptych import pretrained
    >>> pretrained.names("vit-l-*")
    ['vit-l-14', 'vit-l-14-336', 'vit-l-14-quickgelu', 'vit-l-14-336-quickgelu']
    """
    return [name for name in _entries() if fnmatch.fnmatchcase(name, _plain(pattern))]


def entry(name: str) -> Entry:
    """What is known about a model, of which any name may be given: its own, an older one, another
    library's (`name/tag`, too), that of a published file or of a repository; or
    `package.module:NAME` or `file.py:NAME`, a configuration of your own.

    Raises UnknownNameError with near misses, and ConfigError for a repository of many models,
    naming its files.

    >>> from diptych import pretrained
    >>> pretrained.entry("ViT-B/32-quickgelu").weights[0].repo
    'timm/vit_base_patch32_clip_224.openai'
    >>> pretrained.entry("EVA02_CLIP_L_336_psz14_s6B.pt").name
    'eva02-clip-l-14-336'
    >>> pretrained.entry("EVA02-L-14-336/merged2b_s6b_b61k").name
    'eva02-clip-l-14-336'
    """
    return _find(name).entry


def get(name: str) -> ClipConfig:
    """The configuration of a model. Raises as `entry`, and ConfigError for an image tower alone.

    >>> from diptych import pretrained
    >>> pretrained.get("ViT-B/32").image.patch_size
    32
    """
    found = entry(name)
    if not isinstance(found.config, ClipConfig):
        raise ConfigError(
            f"{found.name} is an image tower without a text tower; load_image_tower() reads it, "
            "pretrained.tower() tells its configuration"
        )
    return found.config


def tower(name: str) -> ImageTowerConfig:
    """The configuration of an image tower alone, or of a model's image tower. Raises as `entry`.

    >>> from diptych import pretrained
    >>> pretrained.tower("EVA02_L_psz14").attention_norm
    False
    >>> pretrained.tower("EVA02-CLIP-L-14").attention_norm
    True
    """
    config = entry(name).config
    return config.image if isinstance(config, ClipConfig) else config


def weights(name: str) -> Weights | None:
    """The file that a name means: its own, for the name of a file, a repository or `model/tag`;
    else the first that is known of the model, None if there is none. Raises as `entry`.

    >>> from diptych import pretrained
    >>> pretrained.weights("EVA-CLIP-8B").file, pretrained.weights("BAAI/EVA-CLIP-8B").format
    ('EVA_CLIP_8B_psz14_s9B.pt', 'transformers')
    """
    return _find(name).weights


def _find(name: str) -> _Found:
    if ":" in name and not name.lower().startswith("hf-hub:"):
        return _Found(_own(name), None)
    plain = _plain(name)
    found = _by_name().get(plain)
    if found is not None:
        return found
    if files := _files_in(plain):
        raise ConfigError(f"{name} is a repository of many files; name one: {', '.join(files)}")
    close = difflib.get_close_matches(plain, _by_name(), n=9)
    raise UnknownNameError(
        "model", name, _entries(), near=[_by_name()[each].entry.name for each in close]
    )


def _own(name: str) -> Entry:
    """A configuration of somebody's, `package.module:NAME` or `file.py:NAME`. Raises ConfigError
    for what can't be imported or is none."""
    config = import_object(name)
    if not isinstance(config, ClipConfig | ImageTowerConfig):
        raise ConfigError(
            f"{name} is a {type(config).__name__}; a model's name leads to a ClipConfig or to the "
            "configuration of an image tower"
        )
    return Entry(name=name, config=config)


def _files_in(repo: str) -> list[str]:
    """The known files of a repository, whose name is in plain spelling."""
    found: list[str] = []
    for model in _entries().values():
        found += [each.file for each in model.weights if each.repo and _plain(each.repo) == repo]
    return found


@functools.cache
def _entries() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for family in families():
        for model in family.entries():
            if model.name in found:
                raise ConfigError(
                    f"the family {family.name} has a model {model.name}, and so has another; "
                    "update or uninstall one of the packages"
                )
            found[model.name] = model
    return found


@functools.cache
def _by_name() -> dict[str, _Found]:
    """By every name in its plain spelling. A name of two models means the first: no package takes a
    name from us."""
    found: dict[str, _Found] = {}
    for model in _entries().values():
        found = _names_of(model) | found
    return found


def _names_of(model: Entry) -> dict[str, _Found]:
    own = (model.name, *model.aliases)
    found = {_plain(name): _Found(model, next(iter(model.weights), None)) for name in own}
    for each in model.weights:
        for name in (*each.names, *_tagged(own, each.tags)):
            found[_plain(name)] = _Found(model, each)
    return found


def _tagged(names: tuple[str, ...], tags: tuple[str, ...]) -> list[str]:
    return [f"{name}/{tag}" for name, tag in itertools.product(names, tags)]


def _plain(name: str) -> str:
    """One spelling for all: `ViT-B/32`, `ViT_B_32` and `vit-b-32`; `ViT-L/14@336px` and
    `vit-l-14-336`."""
    return re.sub(r"px(?=-|$)", "", re.sub("[/_@]", "-", name.lower().removeprefix("hf-hub:")))
