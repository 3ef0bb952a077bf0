"""From a name, a group or a pattern to sets."""

import difflib
import fnmatch
import functools
from collections.abc import Sequence

from diptych.errors import UnknownNameError
from diptych.evaluation.sets.entries import ENTRIES
from diptych.evaluation.sets.entry import EvaluationSet

_SHIFTS = ("imagenet-v2", "imagenet-sketch", "imagenet-a", "imagenet-r", "objectnet")
_DECLIP = (
    *(
        "pets",
        "cifar10",
        "cifar100",
        "sun397",
        "food101",
        "flowers102",
        "cars",
        "caltech101",
        "fgvc-aircraft",
        "dtd",
    ),
    "imagenet1k",
)
_VTAB = (
    *("caltech101", "cifar100", "clevr-count", "clevr-distance", "diabetic-retinopathy", "dmlab"),
    *(
        "dsprites-orientation",
        "dsprites-x",
        "dtd",
        "eurosat",
        "kitti-distance",
        "flowers102",
        "pets",
        "pcam",
    ),
    *("resisc45", "smallnorb-azimuth", "smallnorb-elevation", "sun397", "svhn"),
)
_EVA = (
    *(
        "imagenet1k",
        "imagenet-a",
        "imagenet-r",
        "imagenet-sketch",
        "imagenet-v2",
        "objectnet",
        "cifar10",
        "cifar100",
    ),
    *(
        "mnist",
        "caltech101",
        "sun397",
        "fgvc-aircraft",
        "country211",
        "cars",
        "birdsnap",
        "dtd",
        "eurosat",
        "fer2013",
    ),
    *(
        "flowers102",
        "food101",
        "gtsrb",
        "pcam",
        "pets",
        "rendered-sst2",
        "resisc45",
        "stl10",
        "voc2007",
    ),
)
_OPENAI = (
    *(
        "food101",
        "cifar10",
        "cifar100",
        "birdsnap",
        "sun397",
        "cars",
        "fgvc-aircraft",
        "voc2007-multilabel",
        "dtd",
    ),
    *(
        "pets",
        "caltech101",
        "flowers102",
        "mnist",
        "fer2013",
        "stl10",
        "eurosat",
        "resisc45",
        "gtsrb",
    ),
    *(
        "kitti-distance",
        "country211",
        "pcam",
        "ucf101",
        "kinetics700",
        "clevr-count",
        "hateful-memes",
    ),
    *("rendered-sst2", "imagenet1k"),
)
_PLUS = (
    *(
        "imagenet1k",
        *_SHIFTS,
        "fer2013",
        "voc2007",
        "voc2007-multilabel",
        "cars",
        "fgvc-aircraft",
        "mnist",
        "stl10",
    ),
    *("gtsrb", "country211", "rendered-sst2", "cifar10", *_VTAB),
)

GROUPS: dict[str, tuple[str, ...]] = {
    "eva27": _EVA,
    "eva-video4": ("ucf101", "kinetics400", "kinetics600", "kinetics700"),
    "openai27": _OPENAI,
    "declip11": _DECLIP,
    "vtab": _VTAB,
    "vtab+": _PLUS,
    "imagenet-shifts": _SHIFTS,
    "retrieval": ("coco", "flickr8k", "flickr30k"),
    "sugarcrepe": tuple(entry.name for entry in ENTRIES if entry.original == "sugarcrepe"),
}
"""`eva27`, `eva-video4`: Sun et al. 2024 (arXiv:2402.04252). `openai27`: Radford et al. 2021
(arXiv:2103.00020). `declip11`: Li et al. 2022 (arXiv:2110.05208). `vtab`, `vtab+` and `retrieval`:
as CLIP_benchmark lists them."""


def names() -> tuple[str, ...]:
    """The names of all sets.

    >>> from diptych.evaluation import sets
    >>> sets.names()[:2]
    ('imagenet1k', 'imagenet-v2')
    """
    return tuple(_entries())


def get(name: str) -> EvaluationSet:
    """The set of that name, in any usual spelling. Raises UnknownNameError with near misses.

    >>> from diptych.evaluation import sets
    >>> sets.get("vtab/cifar10").title, sets.get("ImageNet_Sketch").name
    ('CIFAR-10', 'imagenet-sketch')
    """
    found = _spellings().get(_plain(name))
    if found is None:
        close = difflib.get_close_matches(_plain(name), _spellings(), n=9)
        raise UnknownNameError(
            "evaluation set", name, _entries(), near=[_spellings()[each].name for each in close]
        )
    return found


def select(wanted: Sequence[str]) -> tuple[EvaluationSet, ...]:
    """The sets that names, groups (`GROUPS`, and `all`) and shell patterns mean, each once, in the
    order asked for.

    Raises UnknownNameError for a word that means none.

    >>> from diptych.evaluation import sets
    >>> [entry.name for entry in sets.select(("cifar10", "cifar*", "imagenet-shifts"))][:3]
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
            raise UnknownNameError("evaluation set", word, _entries())
        return matches
    try:
        return (get(word),)
    except UnknownNameError as error:
        near = error.near or difflib.get_close_matches(word, GROUPS, n=3)
        raise UnknownNameError(
            "evaluation set or group", word, (*_entries(), *GROUPS), near=near
        ) from None


@functools.cache
def _entries() -> dict[str, EvaluationSet]:
    return {entry.name: entry for entry in ENTRIES}


@functools.cache
def _spellings() -> dict[str, EvaluationSet]:
    return {
        _plain(name): entry
        for entry in ENTRIES
        for name in (entry.name, *entry.mirrors, *entry.aliases)
    }


def _plain(name: str) -> str:
    """One spelling for all: `ImageNet_Sketch` and `imagenet-sketch`; `vtab/dtd` and
    `wds/vtab-dtd`."""
    return (
        name.lower().removeprefix("wds/").removeprefix("wds_").replace("_", "-").replace("/", "-")
    )
