"""Text augmentation: a caption with words replaced, swapped or deleted.

A function of a random generator alone, so that a sample's views can be made again.
"""

import functools
from collections.abc import Callable, Sequence
from importlib import resources

import numpy as np

from diptych.bounded import read_text
from diptych.config import WordsConfig
from diptych.errors import ConfigError

Synonyms = Callable[[str], Sequence[str]]
"""A word -> words of like meaning; none for words that the source doesn't know."""


class AugmentText:
    """One of three augmentations of a caption, drawn at random (EDA, Wei & Zou 2019,
    arXiv:1901.11196): synonym replacement (a word becomes a synonym everywhere), random swap (two
    words change places) or random deletion (words are left out).

    Raises ConfigError for a source of synonyms that can't be read.

    >>> import numpy as np
    >>> from diptych.config import WordsConfig
    >>> from diptych.inputs.text_augment import AugmentText
    >>> augment = AugmentText(WordsConfig())
    >>> [augment("a small dog in the snow", np.random.default_rng(seed)) for seed in (1, 11)]
    ['a small dog the in snow', 'a little dog in the snow']
    """

    def __init__(self, config: WordsConfig):
        self.config = config
        self._synonyms = read_synonyms(config.synonyms)

    def __call__(self, caption: str, rng: np.random.Generator) -> str:
        """The same `rng` state gives the same caption. One without words stays as it is."""
        words = caption.split()
        if not words:
            return caption
        augmentations = (self._replace, self._swap, self._delete)
        return " ".join(augmentations[int(rng.integers(3))](words, rng))

    def _swap(self, words: list[str], rng: np.random.Generator) -> list[str]:
        first, second = rng.integers(len(words), size=2).tolist()
        return swap(words, first, second)

    def _delete(self, words: list[str], rng: np.random.Generator) -> list[str]:
        dropped = rng.random(len(words)) < self.config.delete
        return drop(words, dropped.tolist(), int(rng.integers(len(words))))

    def _replace(self, words: list[str], rng: np.random.Generator) -> list[str]:
        """The first word of a random order that has synonyms becomes one of them, wherever it
        stands."""
        candidates = sorted(set(words))
        for place in rng.permutation(len(candidates)).tolist():
            found = self._synonyms(candidates[place].lower())
            if found:
                chosen = found[int(rng.integers(len(found)))]
                return [chosen if word == candidates[place] else word for word in words]
        return words


def swap(words: Sequence[str], first: int, second: int) -> list[str]:
    """The words with two places exchanged.

    >>> from diptych.inputs.text_augment import swap
    >>> swap(["a", "red", "car"], 0, 2)
    ['car', 'red', 'a']
    """
    changed = list(words)
    changed[first], changed[second] = changed[second], changed[first]
    return changed


def drop(words: Sequence[str], dropped: Sequence[bool], rescued: int) -> list[str]:
    """The words that aren't `dropped`; where that leaves none, the one at `rescued`.

    >>> from diptych.inputs.text_augment import drop
    >>> drop(["a", "red", "car"], [False, True, False], 0), drop(["a", "car"], [True, True], 1)
    (['a', 'car'], ['car'])
    """
    return [word for word, gone in zip(words, dropped, strict=True) if not gone] or [words[rescued]]


def read_synonyms(source: str) -> Synonyms:
    """The source that `WordsConfig.synonyms` names. Raises ConfigError if it can't be read."""
    if source == "wordnet":
        return _wordnet()
    try:
        text = read_text(source) if source else _shipped_synonyms()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the synonyms {source} can't be read: {error}; give a text file, or `wordnet`"
        ) from error
    return _SynonymGroups(text.splitlines())


class _SynonymGroups:
    """Lines of words of like meaning, separated by commas; a word may stand in several."""

    def __init__(self, lines: Sequence[str]):
        self._others: dict[str, list[str]] = {}
        for line in lines:
            words = [word.strip() for word in line.split(",") if word.strip()]
            for word in words:
                others = [other for other in words if other != word]
                self._others.setdefault(word.lower(), []).extend(others)

    def __call__(self, word: str) -> Sequence[str]:
        return self._others.get(word, ())


@functools.cache
def _shipped_synonyms() -> str:
    return (resources.files("diptych.inputs") / "synonyms.txt").read_text()


def without_nltk(needed: str, error: Exception, data: str) -> str:
    """What to say where NLTK isn't installed, or its `data` isn't (their names, for its
    downloader): why it is `needed`, and what to do.

    >>> from diptych.inputs.text_augment import without_nltk
    >>> without_nltk("tags are wanted", LookupError(), "punkt_tab")[:56]
    "tags are wanted, and NLTK's data isn't installed: pip in"
    """
    missing = "NLTK" if isinstance(error, ImportError) else "NLTK's data"
    return (
        f"{needed}, and {missing} isn't installed: pip install 'diptych[nltk]', then "
        f"python -m nltk.downloader {data}"
    )


def _wordnet() -> Synonyms:
    try:
        from nltk.corpus import stopwords, wordnet

        function_words = frozenset(stopwords.words("english"))
        wordnet.ensure_loaded()
    except (ImportError, LookupError) as error:
        more = "; or leave it empty for the words that come with Diptych"
        said = without_nltk("--data.words.synonyms is wordnet", error, "wordnet stopwords")
        raise ConfigError(said + more) from error

    @functools.lru_cache(1 << 14)
    def find(word: str) -> Sequence[str]:
        if word in function_words:
            return ()
        names = set[str]()
        for sense in wordnet.synsets(word):
            names |= {lemma.name().replace("_", " ").lower() for lemma in sense.lemmas()}
        return sorted(names - {word})

    return find
