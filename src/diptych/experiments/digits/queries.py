"""Plain queries, and which test pictures they are true of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.batch import Sample
from diptych.data import scenes
from diptych.search import Index

TOP = 8
"""Pictures shown of each search."""


@dataclass(frozen=True, kw_only=True)
class CheckedHit:
    """One picture of a search, its cosine similarity, and whether the query is true of it."""

    sample: Sample
    score: float
    right: bool


@dataclass(frozen=True, kw_only=True)
class DemoSearch:
    """One search, best picture first."""

    query: str
    hits: Sequence[CheckedHit]
    fitting: int
    """How many of all pictures fit."""


def search(index: Index, samples: Mapping[str, Sample], queries: Sequence[str]) -> list[DemoSearch]:
    """The first `TOP` pictures for each query, and whether they fit it.

    `samples` are the indexed pictures by their place, `SHARD.tar/KEY`.
    """
    return [_search(index, samples, query) for query in queries]


def _search(index: Index, samples: Mapping[str, Sample], query: str) -> DemoSearch:
    hits = list[CheckedHit]()
    for hit in index.search(query, TOP):
        sample = samples["/".join(Path(hit.path).with_suffix("").parts[-2:])]
        right = fits(query, attributes(sample))
        hits.append(CheckedHit(sample=sample, score=hit.score, right=right))
    fitting = sum(fits(query, attributes(sample)) for sample in samples.values())
    return DemoSearch(query=query, hits=hits, fitting=fitting)


def query_of(sample: Sample) -> str:
    """A plain sentence about two digits, such as "a blue three left of an orange two"."""
    scene = attributes(sample)
    one, two = (name_of(digit) for digit in scene["digits"])
    return f"{one} {scenes.RELATIONS[scene['relation']][0]} {two}"


def attributes(sample: Sample) -> dict[str, Any]:
    """What the generator noted about the scene."""
    assert sample.meta is not None, "every scene has its attributes"
    return dict(sample.meta)


def fits(query: str, scene: Mapping[str, Any]) -> bool:
    """Whether the words of a plain query ("a small red seven", "a red one above a blue two") are
    true of a scene.

    >>> from diptych.experiments.digits.queries import fits
    >>> scene = {"digits": [{"value": 7, "colour": "red", "size": "small"}], "relation": None}
    >>> fits("a red seven", scene), fits("a large red seven", scene)
    (True, False)
    """
    digits, relation = scene["digits"], scene["relation"]
    for name in _OPPOSITES:
        first, found, second = query.partition(f" {scenes.RELATIONS[name][0]} ")
        if found:
            # "A left of B" and "B right of A" are the same scene, noted one way round.
            if relation == _OPPOSITES[name]:
                digits = digits[::-1]
            elif relation != name:
                return False
            return _is(first, digits[0]) and _is(second, digits[1])
    return any(_is(query, digit) for digit in digits)


_OPPOSITES = {"left": "right", "right": "left", "above": "below", "below": "above"}


def _is(phrase: str, digit: Mapping[str, Any]) -> bool:
    known = {digit["colour"], digit["size"], scenes.DIGITS[digit["value"]], "a", "an"}
    return set(phrase.split()) <= known


def coloured(colour: str) -> str:
    """With its article: "an orange"."""
    return f"{scenes.article(colour)} {colour}"


def name_of(digit: Mapping[str, Any]) -> str:
    """Colour and number of a digit: "an orange two"."""
    return f"{coloured(digit['colour'])} {scenes.DIGITS[digit['value']]}"
