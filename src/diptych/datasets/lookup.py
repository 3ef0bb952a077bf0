"""From a name, a group, a pattern or an import path to evaluation datasets."""

import difflib
import fnmatch
import functools
import re
from collections.abc import Sequence

from diptych.components import import_object
from diptych.datasets.entries import ENTRIES
from diptych.datasets.entry import EvaluationSet
from diptych.datasets.places import bare
from diptych.errors import ConfigError, UnknownNameError


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_SHIFTS = _split("imagenet-v2 imagenet-sketch imagenet-a imagenet-r objectnet")
_DECLIP = _split(
    "pets cifar10 cifar100 sun397 food101 flowers102 cars caltech101 fgvc-aircraft dtd imagenet1k"
)
_VTAB = _split(
    "caltech101 cifar100 clevr-count clevr-distance diabetic-retinopathy dmlab "
    "dsprites-orientation dsprites-x dtd eurosat kitti-distance flowers102 pets pcam "
    "resisc45 smallnorb-azimuth smallnorb-elevation sun397 svhn"
)
_EVA = _split(
    "imagenet1k imagenet-a imagenet-r imagenet-sketch imagenet-v2 objectnet cifar10 "
    "cifar100 mnist caltech101 sun397 fgvc-aircraft country211 cars birdsnap dtd eurosat "
    "fer2013 flowers102 food101 gtsrb pcam pets rendered-sst2 resisc45 stl10 voc2007"
)
_OPENAI = _split(
    "food101 cifar10 cifar100 birdsnap sun397 cars fgvc-aircraft voc2007-multilabel dtd "
    "pets caltech101 flowers102 mnist fer2013 stl10 eurosat resisc45 gtsrb kitti-distance "
    "country211 pcam ucf101 kinetics700 clevr-count hateful-memes rendered-sst2 imagenet1k"
)
_BEYOND_VTAB = _split(
    "fer2013 voc2007 voc2007-multilabel cars fgvc-aircraft mnist stl10 gtsrb country211 "
    "rendered-sst2 cifar10"
)

GROUPS: dict[str, tuple[str, ...]] = {
    "eva27": _EVA,
    "eva-video4": _split("ucf101 kinetics400 kinetics600 kinetics700"),
    "eva-retrieval2": _split("flickr30k coco"),
    "openai27": _OPENAI,
    "declip11": _DECLIP,
    "vtab": _VTAB,
    "vtab+": ("imagenet1k", *_SHIFTS, *_BEYOND_VTAB, *_VTAB),
    "imagenet-shifts": _SHIFTS,
    "retrieval": _split("coco flickr8k flickr30k"),
    "sugarcrepe": tuple(entry.name for entry in ENTRIES if entry.reader == "sugarcrepe"),
}
"""`eva27`, `eva-video4`, `eva-retrieval2` (whose mean is the papers' MR): Sun et al. 2024
(arXiv:2402.04252). `openai27`: Radford et al. 2021 (arXiv:2103.00020). `declip11`: Li et al. 2022
(arXiv:2110.05208). `vtab`, `vtab+` and `retrieval`: as CLIP_benchmark lists them."""
_IMPORT_PATH = re.compile(r"(.+\.py|[A-Za-z_]\w*(\.\w+)*):[A-Za-z_]\w*")
_NO_MODULES = ("pipe:", "synthetic:")
"""Data sources with a colon."""


def names() -> tuple[str, ...]:
    """The names of all datasets of ours.

    >>> from diptych import datasets
    >>> datasets.names()[:2]
    ('imagenet1k', 'imagenet-v2')
    """
    return tuple(_entries())


def get(name: str) -> EvaluationSet:
    """The dataset of that name, in any usual spelling, or the one that an import path names.

    Raises UnknownNameError with near misses, and ConfigError for an import path that names none.

    >>> from diptych import datasets
    >>> datasets.get("vtab/cifar10").title, datasets.get("ImageNet_Sketch").name
    ('CIFAR-10', 'imagenet-sketch')
    """
    if is_import_path(name):
        return _imported(name)
    found = builtin(name)
    if found is None:
        close = difflib.get_close_matches(_plain(name), _spellings(), n=9)
        near = dict.fromkeys(_spellings()[each].name for each in close)
        raise UnknownNameError("evaluation dataset", name, _entries(), near=near)
    return found


def builtin(name: str) -> EvaluationSet | None:
    """The dataset of ours that answers to a name, if any; nothing is ever imported, so the name may
    come from a file of anybody's.

    >>> from diptych import datasets
    >>> datasets.builtin("os:system") is None, datasets.builtin("CIFAR-10").name
    (True, 'cifar10')
    """
    found = _spellings()
    # Other than a hyphen, a slash counts: it is a mirror's, or makes the name a path.
    return found.get(_plain(name)) or (None if "/" in name else found.get(bare(name)))


def is_import_path(word: str) -> bool:
    """Whether it reads as `package.module:NAME` or `folder/file.py:NAME`.

    >>> from diptych.datasets.lookup import is_import_path
    >>> is_import_path("my_sets:FLAGS"), is_import_path("synthetic:16")
    (True, False)
    """
    return bool(_IMPORT_PATH.fullmatch(word)) and not word.startswith(_NO_MODULES)


def select(wanted: Sequence[str]) -> tuple[EvaluationSet, ...]:
    """The datasets that names, import paths, groups (`GROUPS`, and `all`) and shell patterns mean,
    each once, in the order asked for.

    Raises UnknownNameError for a word that means none, ConfigError as `get`.

    >>> from diptych import datasets
    >>> found = datasets.select(("cifar10", "cifar*", "imagenet-shifts"))
    >>> [entry.name for entry in found][:3]
    ['cifar10', 'cifar100', 'imagenet-v2']
    """
    found: dict[str, EvaluationSet] = {}
    for word in wanted:
        found |= {entry.name: entry for entry in _meant(word)}
    return tuple(found.values())


def _meant(word: str) -> tuple[EvaluationSet, ...]:
    if word == "all":
        return ENTRIES
    if word in GROUPS:
        return tuple(_entries()[name] for name in GROUPS[word])
    if any(sign in word for sign in "*?["):
        matches = tuple(entry for entry in ENTRIES if fnmatch.fnmatchcase(entry.name, _plain(word)))
        if not matches:
            raise UnknownNameError("evaluation dataset", word, _entries(), also=_groups())
        return matches
    try:
        return (get(word),)
    except UnknownNameError as error:
        near = error.near or difflib.get_close_matches(word, GROUPS, n=3)
        raise UnknownNameError(
            "evaluation dataset or group", word, _entries(), near=near, also=_groups()
        ) from None


def _groups() -> str:
    return f"groups are {', '.join(GROUPS)} and all"


def _imported(path: str) -> EvaluationSet:
    found = import_object(path)
    if not isinstance(found, EvaluationSet):
        raise ConfigError(f"{path} is no EvaluationSet, but {type(found).__name__}")
    return found


@functools.cache
def _entries() -> dict[str, EvaluationSet]:
    return {entry.name: entry for entry in ENTRIES}


@functools.cache
def _spellings() -> dict[str, EvaluationSet]:
    found = dict[str, EvaluationSet]()
    for entry in ENTRIES:
        for name in (entry.name, *entry.mirrors, *entry.aliases):
            found |= dict.fromkeys((_plain(name), bare(name)), entry)
    return found


def _plain(name: str) -> str:
    """One spelling for all: `ImageNet_Sketch` and `imagenet-sketch`; `vtab/dtd` and
    `wds/vtab-dtd`."""
    plain = name.lower().removeprefix("wds/").removeprefix("wds_")
    return plain.replace("_", "-").replace("/", "-")
