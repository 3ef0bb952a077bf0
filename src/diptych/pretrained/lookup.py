"""From a name, in whatever spelling, to a model."""

import difflib
import fnmatch
import functools
import itertools
import re
from dataclasses import replace
from pathlib import PurePath
from typing import NamedTuple

from diptych.components import import_object
from diptych.config import ClipConfig, ImageTowerConfig
from diptych.errors import ConfigError, UnknownModelError
from diptych.families import Entry, Weights, families
from diptych.pretrained.near import near_names

_ENDINGS = (".pt", ".pth", ".bin", ".safetensors", ".ckpt")
"""Of files of weights."""
_CACHED = "models--"
"""Begins a repository's folder in the hub's cache, in which `--` stands for the slash."""
_SHOWN = 8
"""Tags in a sentence."""


class _Found(NamedTuple):
    entry: Entry
    weights: Weights | None


def names(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, in the order in which the families list them.

    >>> from diptych import pretrained
    >>> pretrained.names("vit-l-14-336*")
    ['vit-l-14-336', 'vit-l-14-336-quickgelu']
    """
    return [name for name in _entries() if fnmatch.fnmatchcase(name, _plain(pattern))]


def entry(name: str) -> Entry:
    """What is known about a model, of which any name may be given: its own, an older one, another
    library's (`name/tag`, too), that of a published file or of a repository; or
    `package.module:NAME` or `file.py:NAME`, a configuration of your own.

    Raises UnknownModelError with near misses, and ConfigError for a repository of many models,
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


def card(name: str) -> Entry:
    """`entry`, also of weights that are known by a tag alone: their model, with these weights and
    what is known of their training. Raises as `entry`.

    >>> from diptych import pretrained
    >>> found = pretrained.card("ViT-B-32/laion2b_s34b_b79k")
    >>> found.name, found.weights[0].repo, found.training.batch
    ('vit-b-32', 'laion/CLIP-ViT-B-32-laion2B-s34B-b79K', '79K')
    """
    plain = _plain(name)
    found = next((pair for pair in _labelled() if _plain(pair[0]) == plain), None)
    if found is None:
        return entry(name)
    label, file = found
    model = entry(label.rpartition("/")[0])
    return replace(model, weights=(file,), training=file.training)


def get(name: str) -> ClipConfig:
    """The configuration of a model. Raises as `entry`, and ConfigError for an image tower alone.

    >>> from diptych import pretrained
    >>> pretrained.get("ViT-B/32").image.patch_size
    32
    """
    found = entry(name)
    if not isinstance(found.config, ClipConfig):
        raise ConfigError(
            f"{found.name} is an image tower without a text tower; load_image_tower() and "
            "diptych.load() read it, pretrained.tower() tells its configuration"
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


def identify(name: str) -> Entry | None:
    """The model whose published weights a name in a result stands for: any name of it, or a path on
    whose end the name of a file, a repository or the model stands, or which lies in the hub's
    cache. None for any other; nothing is imported, for a result may be anybody's file.

    >>> from diptych import pretrained
    >>> pretrained.identify("/weights/EVA02_CLIP_B_psz16_s8B.pt").name
    'eva02-clip-b-16'
    >>> pretrained.identify("/hub/models--BAAI--EVA-CLIP-8B/snapshots/0").name
    'eva-clip-8b'
    >>> pretrained.identify("runs/mine") is None
    True
    """
    found = _identified(name)
    return found.entry if found else None


def weights_of(name: str) -> Weights | None:
    """The file that a name in a result stands for, as `identify` reads it; None where that is
    nothing that was published."""
    found = _identified(name)
    return found.weights if found else None


def _identified(name: str) -> _Found | None:
    if ":" in name.removeprefix("hf-hub:"):
        return None
    known = map(_by_name().get, map(_plain, (name, *_ends_of(name))))
    found = next(filter(None, known), None)
    if found is None or found.weights is None:
        return found
    # Other weights of the model in the same layout were published for another use.
    first = next(each for each in found.entry.weights if each.format == found.weights.format)
    return found if first is found.weights else None


def _ends_of(name: str) -> list[str]:
    """What a path on this machine says of the weights in it."""
    path = PurePath(name)
    cached = [part.removeprefix(_CACHED) for part in path.parts if part.startswith(_CACHED)]
    stem = path.name.removesuffix(".tar")
    ends = (path.name, PurePath(stem).stem if PurePath(stem).suffix in _ENDINGS else stem)
    local = path.is_absolute() or path.suffix in (*_ENDINGS, ".tar")
    return [*(ends if local else ()), *(each.replace("--", "/") for each in cached)]


def means_weights(name: str) -> bool:
    """Whether a name means certain weights (a file, a repository, `model/tag`), and not a model of
    which there may be several. Raises as `entry`, but for `repository`'s.

    >>> from diptych import pretrained
    >>> pretrained.means_weights("EVA02_CLIP_B_psz16_s8B.pt"), pretrained.means_weights("ViT-B-32")
    (True, False)
    """
    if repository(name):
        return True
    model = _find(name).entry
    return _plain(name) not in map(_plain, (model.name, *model.aliases))


def repository(name: str) -> str:
    """The repository on the hub of weights that another library calls `model/tag`, and that says
    itself how its model is built; empty: of none that is known.

    >>> from diptych import pretrained
    >>> pretrained.repository("ViT-H-14/laion2b_s32b_b79k")
    'laion/CLIP-ViT-H-14-laion2B-s32B-b79K'
    """
    return _repositories().get(_plain(name), "")


def tagged(name: str) -> list[str]:
    """Weights that are known of a model by a tag, each as `model/tag`; empty: none are.

    >>> from diptych import pretrained
    >>> pretrained.tagged("ViT-L-14-336"), pretrained.tagged("ViT-g-14")[0]
    (['ViT-L-14-336/openai'], 'ViT-g-14/laion2b_s12b_b42k')
    """
    plain = _plain(name)
    # Weights of another model may have a tag of this one, too: those that want QuickGELU.
    tags = [tag for tag in _tags() if _plain(f"{name}/{tag}") in _by_name()]
    tags += [
        label.rpartition("/")[2]
        for label, _ in _labelled()
        if _plain(label.rpartition("/")[0]) == plain
    ]
    return [f"{name}/{tag}" for tag in dict.fromkeys(tags)]


def published(model: Entry) -> list[tuple[str, Weights]]:
    """All weights that are known of a model, each by a name that means them: its own files, then
    what has a tag.

    >>> from diptych import pretrained
    >>> [name for name, _ in pretrained.published(pretrained.entry("vit-g-14"))]
    ['ViT-g-14/laion2b_s12b_b42k', 'ViT-g-14/laion2b_s34b_b88k']
    """
    found: list[tuple[str, Weights]] = []
    for each in model.weights:
        tagged = _tagged((model.name,), each.tags[-1:])
        found.append(((*tagged, *each.names, each.place)[0], each))
    plain = _plain(model.name)
    found += [pair for pair in _labelled() if _plain(pair[0].rpartition("/")[0]) == plain]
    return found


def _find(name: str) -> _Found:
    if "://" in name:
        hint = "it is an address; a repository of the hub is written hf-hub:org/name, and other "
        raise UnknownModelError("model", name, (), hint=f"{hint}files are downloaded first")
    if ":" in name and not name.lower().startswith("hf-hub:"):
        return _Found(_own(name), None)
    plain = _plain(name)
    found = _by_name().get(plain)
    if found is not None:
        return found
    if files := _files_in(plain):
        raise ConfigError(f"{name} is a repository of many files; name one: {', '.join(files)}")
    raise _unknown(name, plain)


def _unknown(name: str, plain: str) -> UnknownModelError:
    """Other models are no near misses of weights: who asks for LAION's ViT-H-14 doesn't mean
    OpenAI's ViT-L-14."""
    model, _, tag = name.removeprefix("hf-hub:").rpartition("/")
    if model and (known := tagged(model)):
        tags = [each.rpartition("/")[2] for each in known]
        hint = "" if difflib.get_close_matches(tag, tags) else f"known are {_some(tags)}"
        return UnknownModelError(f"tag of {model}", tag, tags, hint=hint)
    near = near_names(plain, _models_by_name())
    if near or name.count("/") != 1:
        listed = len(names(f"*{name}*"))
        also = f"`diptych models '*{name}*'` lists {listed}" if near and listed > len(near) else ""
        hint = "" if near else "`diptych models` lists those that are known"
        return UnknownModelError("model", name, (), near=near, also=also, hint=hint)
    return UnknownModelError(
        "model", name, (), hint=f"a repository of the hub is written hf-hub:{name}"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names if len(names) <= _SHOWN else [*names[:_SHOWN], "…"])


@functools.cache
def _labelled() -> tuple[tuple[str, Weights], ...]:
    found: list[tuple[str, Weights]] = []
    for family in families():
        found += family.part(family.repositories)
    return tuple(found)


@functools.cache
def _tags() -> tuple[str, ...]:
    """All that any weights have, OpenAI's first."""
    known = (found.weights.tags for found in _by_name().values() if found.weights)
    return tuple(dict.fromkeys(["openai", *itertools.chain.from_iterable(known)]))


@functools.cache
def _repositories() -> dict[str, str]:
    """By `model/tag` in plain spelling."""
    return {_plain(label): weights.repo for label, weights in _labelled()}


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


@functools.cache
def _models_by_name() -> dict[str, str]:
    """The model of every name and of every tag, in the order in which they are listed."""
    found: dict[str, str] = {}
    for model in _entries().values():
        found = found | dict.fromkeys(_names_of(model), model.name) | found
    for label, _ in _labelled():
        found.setdefault(_plain(label), entry(label.rpartition("/")[0]).name)
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
