"""Short names for people: of several paths, the shortest ends that tell them apart."""

import os
from collections import Counter
from collections.abc import Collection, Iterable

from diptych import pretrained
from diptych.errors import ConfigError, UnknownNameError


def model_names(names: Iterable[str]) -> dict[str, str]:
    """`short_names` of models: published ones are called what the caller calls them.

    >>> from diptych.evaluation.names import model_names
    >>> model_names(["runs/a/seed0", "/other/seed0/", "ViT-B/32"])
    {'ViT-B/32': 'ViT-B/32', 'runs/a/seed0': 'a/seed0', '/other/seed0/': 'other/seed0'}
    """
    names = list(dict.fromkeys(names))
    published = [name for name in names if _is_published(name)]
    paths = [name for name in names if name not in published]
    return dict(zip(published, published)) | short_names(paths, taken=published)


def short_names(paths: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """For each path the shortest end of it, in whole parts, that no other one has and that isn't
    `taken`: `seed0`, or `a/seed0` beside `b/seed0`.

    Spellings of one place (`a/`, `./a`, `/here/a`, `a` with backslashes) get one name; which one
    depends on the paths alone, not on their order.

    >>> from diptych.evaluation.names import short_names
    >>> short_names(["runs/a/seed0", "runs/b/seed0", "runs/b/seed1/"])
    {'runs/a/seed0': 'a/seed0', 'runs/b/seed0': 'b/seed0', 'runs/b/seed1/': 'seed1'}
    >>> short_names(["a/test", "./a/test", "test"])
    {'a/test': 'a/test', './a/test': 'a/test', 'test': 'test'}
    """
    places, spelled = dict[str, str](), dict[str, tuple[str, ...]]()
    for path in paths:
        parts = _parts(path)
        places[path] = place = os.path.abspath("/".join(parts))
        if "/".join(parts) in taken:
            parts = tuple(place.split("/"))
        # Of two spellings the longer one: it has more that may tell it apart.
        spelled[place] = max(spelled.get(place, ()), parts, key=len)
    short = _shortest(spelled, taken)
    return {path: short[place] for path, place in places.items()}


def _is_published(name: str) -> bool:
    # A result may be anybody's file: what it calls its model is looked up, and never imported.
    if ":" in name:
        return False
    try:
        return bool(pretrained.entry(name))
    except (UnknownNameError, ConfigError):
        return False


def _parts(path: str) -> tuple[str, ...]:
    """Of a path in any spelling; an absolute one begins with an empty part."""
    text = os.path.normpath(os.path.expanduser(path.replace("\\", "/")))
    if text.split("/")[0] in (".", ".."):
        text = os.path.abspath(text)
    return tuple(text.split("/"))


def _shortest(spelled: dict[str, tuple[str, ...]], taken: Collection[str]) -> dict[str, str]:
    """Of each place, whose parts these are, the shortest end that is nobody else's."""
    short, left, length = dict[str, str](), dict(spelled), 1
    while left:
        # All places count each time: an end that two share tells neither of them apart.
        ends = Counter(["/".join(parts[-length:]) for parts in spelled.values()] + [*taken])
        for place, parts in [*left.items()]:
            end = "/".join(parts[-length:])
            if ends[end] == 1 or length >= len(parts):
                short[place] = end or "/"
                del left[place]
        length += 1
    return short
