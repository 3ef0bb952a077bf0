"""From a name, in whatever spelling, to a model."""

from pathlib import PurePath

from diptych.components import import_object
from diptych.config import ClipConfig, ImageTowerConfig
from diptych.errors import ConfigError, UnknownModelError
from diptych.families import Entry, Weights
from diptych.pretrained import catalogue
from diptych.pretrained.catalogue import Found
from diptych.pretrained.unknown import unknown

_ENDINGS = (".pt", ".pth", ".bin", ".safetensors", ".ckpt")
"""Of files of weights."""
_CACHED = "models--"
"""Begins a repository's folder in the hub's cache, in which `--` stands for the slash."""


def names(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, in the order in which the families list them.

    >>> from diptych import pretrained
    >>> pretrained.names("vit-l-14-336*")
    ['vit-l-14-336', 'vit-l-14-336-quickgelu']
    """
    return catalogue.matching(pattern)


def entry(name: str) -> Entry:
    """What is known about a model, of which any name may be given: its own, an older one, another
    library's (`name/tag`, too), that of a published file or of a repository; or
    `package.module:NAME` or `file.py:NAME`, a configuration of your own. Of weights that are known
    by a tag alone it is their model with these weights, and what is known of their training.

    Raises UnknownModelError with near misses, and ConfigError for a repository of many models,
    naming its files.

    >>> from diptych import pretrained
    >>> pretrained.entry("ViT-B/32-quickgelu").weights[0].repo
    'timm/vit_base_patch32_clip_224.openai'
    >>> pretrained.entry("EVA02_CLIP_L_336_psz14_s6B.pt").name
    'eva02-clip-l-14-336'
    >>> pretrained.entry("EVA02-L-14-336/merged2b_s6b_b61k").name
    'eva02-clip-l-14-336'
    >>> found = pretrained.entry("ViT-B-32/laion2b_s34b_b79k")
    >>> found.name, found.weights[0].repo, found.training.batch
    ('vit-b-32', 'laion/CLIP-ViT-B-32-laion2B-s34B-b79K', '79K')
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


def _identified(name: str) -> Found | None:
    if ":" in name.removeprefix("hf-hub:"):
        return None
    known = map(catalogue.by_name().get, map(catalogue.plain, (name, *_ends_of(name))))
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
    model = _find(name).entry
    return catalogue.plain(name) not in map(catalogue.plain, (model.name, *model.aliases))


def repository(name: str) -> str:
    """The repository on the hub of weights that another library calls `model/tag`, and that says
    itself how its model is built, by that name or its own; empty: of none that is known.

    >>> from diptych import pretrained
    >>> pretrained.repository("ViT-H-14/laion2b_s32b_b79k")
    'laion/CLIP-ViT-H-14-laion2B-s32B-b79K'
    """
    found = catalogue.labelled_by_name().get(catalogue.plain(name))
    return found.entry.weights[0].repo if found else ""


def tagged(name: str) -> list[str]:
    """Weights that are known of a model by a tag, each as `model/tag`; empty: none are.

    >>> from diptych import pretrained
    >>> pretrained.tagged("ViT-L-14-336"), pretrained.tagged("ViT-g-14")[0]
    (['ViT-L-14-336/openai'], 'ViT-g-14/laion2b_s12b_b42k')
    """
    return [f"{name}/{tag}" for tag in catalogue.tags_of(name)]


def published(model: Entry) -> list[tuple[str, Weights]]:
    """All weights that are known of a model, each by a name that means them: its own files, then
    what has a tag.

    >>> from diptych import pretrained
    >>> [name for name, _ in pretrained.published(pretrained.entry("vit-g-14"))]
    ['ViT-g-14/laion2b_s12b_b42k', 'ViT-g-14/laion2b_s34b_b88k']
    """
    found: list[tuple[str, Weights]] = []
    for each in model.weights:
        tagged = catalogue.tagged((model.name,), each.tags[-1:])
        found.append(((*tagged, *each.names, each.place)[0], each))
    return found + catalogue.labelled_of(model.name)


def _find(name: str) -> Found:
    if "://" in name:
        hint = "it is an address; a repository of the hub is written hf-hub:org/name, and other "
        raise UnknownModelError("model", name, (), hint=f"{hint}files are downloaded first")
    if ":" in name and not name.lower().startswith("hf-hub:"):
        return Found(_own(name), None)
    plain = catalogue.plain(name)
    found = catalogue.by_name().get(plain) or catalogue.labelled_by_name().get(plain)
    if found is not None:
        return found
    if files := _files_in(plain):
        raise ConfigError(f"{name} is a repository of many files; name one: {', '.join(files)}")
    raise unknown(name)


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
    for model in catalogue.entries().values():
        found += [
            each.file for each in model.weights if each.repo and catalogue.plain(each.repo) == repo
        ]
    return found
