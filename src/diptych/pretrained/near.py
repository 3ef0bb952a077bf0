"""Which models somebody may mean by a name that none has: near in name and in kind."""

import difflib
import re
from collections.abc import Mapping

_SHOWN = 3
_SPELT, _ALIKE, _WORD = 0.85, 0.75, 0.8
"""How alike, of 1: a misspelt name, a near one, and a word of it."""
_KIND = 5
"""Letters of a word that says the kind: siglip, mammut; fewer are a size or a layout."""
_SIZES = {"small", "large", "giant", "patch"}
"""Words as long as these that say none."""


def near_names(name: str, known: Mapping[str, str]) -> list[str]:
    """The models, best first, of `known`: what each name, in plain spelling, means. First come
    models whose names have all words of `name`, in their order and perhaps longer, own names before
    others and after what is all but spelt so; then those alike in letters whose long words are,
    too, then those of its kind.

    >>> from diptych.pretrained.near import near_names
    >>> known = {"vit-b-32": "b", "laion-openmammut-vit-l-14": "l", "mobileclip-b": "m"}
    >>> near_names("vit-b-23", known), near_names("openmammut", known)
    (['b'], ['l'])
    >>> near_names("biomedclip", known), near_names("mobileclip3 xl", known)
    ([], ['m'])
    """
    alike = difflib.get_close_matches(name, known, n=3 * _SHOWN, cutoff=_ALIKE)
    worded = _with_words(re.split(r"[-\s]", name), known)
    spelt = [each for each in alike if _ratio(name, each) >= _SPELT]
    found = (
        [each for each in spelt if each in worded]
        or [each for each in worded if each == known[each]]
        or spelt
        or worded
        or [each for each in alike if _is_kin(name, each)]
        or _with_words(_kinds(name), known)
    )
    return list(dict.fromkeys(known[each] for each in found))[:_SHOWN]


def _with_words(words: list[str], known: Mapping[str, str]) -> list[str]:
    """Names in which `words` stand one behind the other, each as a word's beginning."""
    if not re.search("[a-z]", "".join(words)):
        return []
    pattern = re.compile(".*?".join(map(_begun, words)))
    return list(filter(pattern.search, known))


def _begun(word: str) -> str:
    """A letter and a number stand alone: vit-b isn't vit-bigg's beginning, nor 33 that of 336."""
    whole = len(word) == 1 or word[-1:].isdigit()
    return rf"\b{re.escape(word)}" + (r"\b" if whole else "")


def _kinds(name: str) -> list[str]:
    words = re.findall("[a-z]+", name)
    return [word for word in words if len(word) >= _KIND and word not in _SIZES]


def _is_kin(name: str, other: str) -> bool:
    """Whether each word of `name` that says a kind is all but a word of the other."""
    words = re.findall("[a-z]+", other) or [""]
    return all(max(_ratio(kind, word) for word in words) >= _WORD for kind in _kinds(name))


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
