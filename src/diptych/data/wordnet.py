"""ImageNet's classes, whose folders and labels are WordNet ids: their names in captions."""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from types import MappingProxyType

from diptych.errors import DataError

_ID = re.compile(r"(n\d{8})(?:[\s_.,:-]+(.*))?", re.DOTALL)
"""A WordNet id alone (`n01440764`), or before words (`n02085620-Chihuahua`)."""
_SHOWN = 3


@functools.cache
def imagenet_names() -> Mapping[str, str]:
    """The name of each of ImageNet-1k's WordNet ids, in class order. Two names occur twice.

    >>> from diptych.data.wordnet import imagenet_names
    >>> len(imagenet_names()), imagenet_names()["n01440764"]
    (1000, 'tench')
    """
    text = (files("diptych.data") / "imagenet1k.json").read_text(encoding="utf-8")
    return MappingProxyType(json.loads(text)["classes"])


def spoken_names(labels: Sequence[str]) -> tuple[str, ...]:
    """What captions call the classes of folders, or of lines, of these names.

    A WordNet id is called as ImageNet-1k calls it; one that isn't ImageNet's is called by the words
    behind it, and stays where there are none (see `refuse_ids`). The numbers 0 to 999, all of them,
    are ImageNet's class numbers. In all other names an underscore is a space.

    >>> from diptych.data.wordnet import spoken_names
    >>> spoken_names(("n01440764", "n02085620-Chihuahua", "n99999999 wire_haired fox", "ice_cream"))
    ('tench', 'Chihuahua', 'wire haired fox', 'ice cream')
    """
    names = imagenet_names()
    if len(labels) == len(names) and set(labels) == set(map(str, range(len(names)))):
        in_order = tuple(names.values())
        return tuple(in_order[int(label)] for label in labels)
    return tuple(map(_spoken, labels))


def _spoken(label: str) -> str:
    found = _ID.fullmatch(label.strip())
    words = label if found is None else imagenet_names().get(found[1]) or found[2] or label
    return words.replace("_", " ")


def place_of_id(label: str, names: Sequence[str]) -> int | None:
    """The place among class names of a class that data calls by its WordNet id; None for what is no
    id, and where no name, or more than one, answers to it.

    >>> from diptych.data.wordnet import imagenet_names, place_of_id
    >>> place_of_id("n01443537", ("tench", "goldfish")), place_of_id("7", ("tench", "goldfish"))
    (1, None)
    >>> place_of_id("n04008634", tuple(imagenet_names().values()))  # the second of two missiles
    744
    """
    known = imagenet_names()
    if label not in known:
        return None
    if tuple(names) == tuple(known.values()):
        return list(known).index(label)
    return names.index(known[label]) if names.count(known[label]) == 1 else None


def refuse_ids(names: Sequence[str], place: str, flags: str = "--") -> None:
    """Raises DataError where class names that captions are made of are bare WordNet ids: no caption
    says "a photo of a n02087122." `flags` is what the flag of class names begins with.

    >>> from diptych.data.wordnet import refuse_ids
    >>> refuse_ids(("tench", "n99999999"), "photos")
    Traceback (most recent call last):
    diptych.errors.DataError: photos: 1 of its 2 classes is called by a WordNet id that isn't ...
    """
    bare = [name for name in names if _ID.fullmatch(name) and " " not in name]
    if bare:
        one = len(bare) == 1
        which = "is called by a WordNet id that isn't" if one else "have WordNet ids that aren't"
        more = ", …" if len(bare) > _SHOWN else ""
        raise DataError(
            f"{place}: {len(bare)} of its {len(names)} classes {which} ImageNet-1k's "
            f"({', '.join(bare[:_SHOWN])}{more}); name the classes in a text file, one a line in "
            f"the ids' order, and give it as class names ({flags}class-names)"
        )
