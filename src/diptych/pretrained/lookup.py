"""From a name, in whatever spelling, to a model."""

import difflib
import fnmatch
import functools
import re
from typing import NamedTuple

from diptych.components import import_object
from diptych.config import ClipConfig, ImageTowerConfig
from diptych.errors import ConfigError, UnknownNameError
from diptych.families import Entry, Weights, families


class _Answer(NamedTuple):
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
    >>> pretrained.entry("EVA02_CLIP_L_336_psz14_s6B.pt").name, pretrained.entry("EVA02-L-14-336/merged2b_s6b_b61k").name
    ('eva02-clip-l-14-336', 'eva02-clip-l-14-336')
    """
    return _answer(name).entry


def get(name: str) -> ClipConfig:
    """The configuration of a model. Raises as `entry`, and ConfigError for an image tower alone.

    >>> from diptych import pretrained
    >>> pretrained.get("ViT-B/32").image.patch_size
    32
    """
    found = entry(name)
    if not isinstance(found.config, ClipConfig):
        raise ConfigError(
            f"{found.name} is an image tower without a text tower; load_image_tower() reads it, pretrained.tower() tells its "
            "configuration"
        )
    return found.config


def tower(name: str) -> ImageTowerConfig:
    """The configuration of an image tower alone, or of a model's image tower. Raises as `entry`.

    >>> from diptych import pretrained
    >>> pretrained.tower("EVA02_L_psz14").attention_norm, pretrained.tower("EVA02-CLIP-L-14").attention_norm
    (False, True)
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
    return _answer(name).weights


def _answer(name: str) -> _Answer:
    if ":" in name and not name.startswith("hf-hub:"):
        return _Answer(_own(name), None)
    plain = _plain(name)
    found = _answers().get(plain)
    if found is not None:
        return found
    files = [
        each.file
        for model in _entries().values()
        for each in model.weights
        if each.repo and _plain(each.repo) == plain
    ]
    if files:
        raise ConfigError(f"{name} is a repository of many files; name one: {', '.join(files)}")
    close = difflib.get_close_matches(plain, _answers(), n=9)
    raise UnknownNameError(
        "model", name, _entries(), near=[_answers()[each].entry.name for each in close]
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


@functools.cache
def _entries() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for family in families():
        found |= {model.name: model for model in family.entries()}
    return found


@functools.cache
def _answers() -> dict[str, _Answer]:
    """By every name in its plain spelling."""
    answers: dict[str, _Answer] = {}
    for model in _entries().values():
        own = (model.name, *model.aliases)
        answers |= {_plain(name): _Answer(model, next(iter(model.weights), None)) for name in own}
        for each in model.weights:
            tagged = (f"{name}/{tag}" for name in own for tag in each.tags)
            answers |= {_plain(name): _Answer(model, each) for name in (*each.names, *tagged)}
    return answers


def _plain(name: str) -> str:
    """One spelling for all: `ViT-B/32`, `ViT_B_32` and `vit-b-32`; `ViT-L/14@336px` and
    `vit-l-14-336`."""
    return re.sub(r"px(?=-|$)", "", re.sub("[/_@]", "-", name.lower().removeprefix("hf-hub:")))
