"""Captions said otherwise, and captions with hidden words.

Both are functions of a random generator alone, so that a sample's views can be made again.
"""

import functools
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diptych.config import WordsConfig
from diptych.errors import ConfigError
from diptych.inputs.tokenizer import Tokenizer

NOT_HIDDEN = -100
"""The label of a position whose word isn't hidden; torch's cross-entropy passes it over."""
Synonyms = Callable[[str], Sequence[str]]
"""A word -> words of like meaning; none for words that the source doesn't know."""


class AugmentWords:
    """One of three changes of a caption, drawn at random (EDA, Wei & Zou 2019, arXiv:1901.11196): a
    word becomes a synonym everywhere, two words change places, or words are left out.

    Raises ConfigError for a source of synonyms that can't be read.

    >>> import numpy as np
    >>> from diptych.config import WordsConfig
    >>> from diptych.inputs.words import AugmentWords
    >>> augment = AugmentWords(WordsConfig())
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
        match rng.integers(3):
            case 0:
                changed = self._replace(words, rng)
            case 1:
                changed = swap(words, *rng.integers(len(words), size=2).tolist())
            case _:
                dropped = rng.random(len(words)) < self.config.delete
                changed = drop(words, dropped.tolist(), int(rng.integers(len(words))))
        return " ".join(changed)

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

    >>> from diptych.inputs.words import swap
    >>> swap(["a", "red", "car"], 0, 2)
    ['car', 'red', 'a']
    """
    changed = list(words)
    changed[first], changed[second] = changed[second], changed[first]
    return changed


def drop(words: Sequence[str], dropped: Sequence[bool], rescued: int) -> list[str]:
    """The words that aren't `dropped`; where that leaves none, the one at `rescued`.

    >>> from diptych.inputs.words import drop
    >>> drop(["a", "red", "car"], [False, True, False], 0), drop(["a", "car"], [True, True], 1)
    (['a', 'car'], ['car'])
    """
    return [word for word, gone in zip(words, dropped, strict=True) if not gone] or [words[rescued]]


def read_synonyms(source: str) -> Synonyms:
    """The source that `WordsConfig.synonyms` names. Raises ConfigError if it can't be read."""
    if source == "wordnet":
        return _wordnet()
    try:
        text = Path(source).read_text() if source else _everyday()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the synonyms {source} can't be read: {error}; give a text file, or `wordnet`"
        ) from error
    groups = [
        [word.strip() for word in line.split(",") if word.strip()] for line in text.splitlines()
    ]
    return _Groups(groups)


class _Groups:
    """Groups of words of like meaning; a word may stand in several."""

    def __init__(self, groups: Sequence[Sequence[str]]):
        self._others: dict[str, list[str]] = {}
        for group in groups:
            for word in group:
                self._others.setdefault(word.lower(), []).extend(
                    other for other in group if other != word
                )

    def __call__(self, word: str) -> Sequence[str]:
        return self._others.get(word, ())


@functools.cache
def _everyday() -> str:
    return (resources.files("diptych.inputs") / "synonyms.txt").read_text()


def _wordnet() -> Synonyms:
    try:
        from nltk.corpus import stopwords, wordnet

        function_words = frozenset(stopwords.words("english"))
        wordnet.ensure_loaded()
    except ImportError as error:
        raise ConfigError(
            "data.words.synonyms is wordnet, which needs NLTK: `pip install nltk`"
        ) from error
    except LookupError as error:
        raise ConfigError(
            "NLTK's WordNet isn't installed: `python -m nltk.downloader wordnet stopwords`, "
            "or leave data.words.synonyms empty for the words that come with Diptych"
        ) from error

    @functools.lru_cache(1 << 14)
    def find(word: str) -> Sequence[str]:
        if word in function_words:
            return ()
        names = {
            lemma.name().replace("_", " ").lower()
            for sense in wordnet.synsets(word)
            for lemma in sense.lemmas()
        }
        return sorted(names - {word})

    return find


class Hidden(NamedTuple):
    """Ids with hidden words, and at their places the ids that were there; NOT_HIDDEN elsewhere."""

    ids: list[int]
    labels: list[int]


class HideWords:
    """Hides a share of a caption's words: of these, 80 % become the tokenizer's mask, 10 % any
    word, and 10 % stay (BERT, Devlin et al. 2018, arXiv:1810.04805, §3.1).

    Raises ConfigError for a tokenizer without a word for hidden ones.

    >>> import numpy as np
    >>> from diptych.config import WordsConfig
    >>> from diptych.inputs import DeclipTokenizer
    >>> from diptych.inputs.words import HideWords
    >>> tokenizer = DeclipTokenizer()
    >>> hide = HideWords(WordsConfig(hide=0.5), tokenizer)
    >>> hide(tokenizer.encode("two red cars"), np.random.default_rng(1))
    Hidden(ids=[49407, 1237, 49406, 3346, 49408], labels=[-100, -100, 736, -100, -100])
    """

    def __init__(self, config: WordsConfig, tokenizer: Tokenizer):
        if tokenizer.mask_id is None:
            raise ConfigError(
                "masked captions need a tokenizer with a word for hidden ones: tokenizer.kind 'declip', "
                "or a Hugging Face tokenizer with a mask token"
            )
        self.config, self.mask_id = config, tokenizer.mask_id
        self.vocab_size, self.special_ids = tokenizer.vocab_size, tokenizer.special_ids

    def __call__(self, ids: Sequence[int], rng: np.random.Generator) -> Hidden:
        """The same `rng` state hides the same words."""
        count = len(ids)
        chosen, fates = rng.random(count) < self.config.hide, rng.random(count)
        return hide(
            ids,
            chosen=[
                bool(c) and number not in self.special_ids
                for c, number in zip(chosen, ids, strict=True)
            ],
            masked=(fates < 0.8).tolist(),
            replaced=((fates >= 0.8) & (fates < 0.9)).tolist(),
            words=rng.integers(self.vocab_size, size=count).tolist(),
            mask_id=self.mask_id,
        )


def hide(
    ids: Sequence[int],
    *,
    chosen: Sequence[bool],
    masked: Sequence[bool],
    replaced: Sequence[bool],
    words: Sequence[int],
    mask_id: int,
) -> Hidden:
    """At each place that is `chosen`: the mask where `masked`, else the other word where
    `replaced`, else the word."""
    fates = zip(ids, chosen, masked, replaced, words, strict=True)
    return Hidden(
        [
            (mask_id if m else other if r else number) if c else number
            for number, c, m, r, other in fates
        ],
        [number if c else NOT_HIDDEN for number, c in zip(ids, chosen, strict=True)],
    )
