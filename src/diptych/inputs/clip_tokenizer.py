"""CLIP's tokenizer (Radford et al. 2021, arXiv:2103.00020) and DeCLIP's, exact, and fast in plain
Python.

Three things make it fast: text that the cleaning can't change skips it, words that were seen before
cost one look-up, and words beyond the context are never looked at.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import regex
from jaxtyping import Int
from torch import Tensor

from diptych.inputs.cleaning import unescaped
from diptych.inputs.tokenizer import Tokenizer, bounded, check_text
from diptych.inputs.vocabulary import read_vocabulary

CACHED_WORDS = 1 << 16
LONGEST_CACHED = 48


@cache
def word_pattern(special: tuple[str, ...]) -> regex.Pattern[str]:
    """Special tokens, English contractions, runs of letters, single digits, runs of everything else
    but space."""
    words = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
    return regex.compile("|".join([*map(regex.escape, special), words]), regex.IGNORECASE)


# Printable ASCII without `&`: neither ftfy nor HTML unescaping has anything to do there.
_is_clean = re.compile(r"[\t\n\r -%'-~]*").fullmatch


class _WordCache(dict[str, tuple[int, ...]]):
    """What stands between two spaces -> its ids, computed when first asked for. Bounded: forgets
    all when full."""

    def __init__(self, special: Mapping[str, int]):
        super().__init__()
        self.special, self.pattern = special, word_pattern(tuple(special))

    def __missing__(self, chunk: str) -> tuple[int, ...]:
        vocabulary = read_vocabulary()
        ids = list[int]()
        for word in self.pattern.findall(chunk):
            ids += (self.special[word],) if word in self.special else vocabulary.encode_word(word)
        if len(self) >= CACHED_WORDS:
            self.clear()
        if len(chunk) <= LONGEST_CACHED:
            self[chunk] = tuple(ids)
        return tuple(ids)


class ClipTokenizer(Tokenizer):
    """OpenAI's byte-pair tokenizer: lower case, ids 49406 and 49407 around the text, 0 as padding.

    >>> from diptych.inputs import ClipTokenizer
    >>> ClipTokenizer().encode("A cat's whiskers")
    [49406, 320, 2368, 568, 6024, 2880, 49407]
    """

    vocab_size = 49408
    pad_id = 0
    start_id, end_id = 49406, 49407
    special_ids = frozenset({49406, 49407})
    special: Mapping[str, int] = MappingProxyType(
        {"<start_of_text>": 49406, "<end_of_text>": 49407}
    )
    """Spellings that mean a special token wherever they stand in a text."""

    def __init__(self, context_length: int = 77):
        self.context_length = context_length
        self._words = _WordCache(self.special)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.context_length,)

    def encode(self, text: str) -> list[int]:
        """[start, ids of the text ..., end], at most `context_length`. Raises DataError for what is
        not text."""
        room = self.context_length - 2
        # Each word has at least one id, so `room` words fill the context.
        words = self._split(text)[:room]
        ids = [self.start_id, *chain.from_iterable(map(self._words.__getitem__, words))]
        del ids[room + 1 :]
        ids.append(self.end_id)
        return ids

    def length(self, text: str) -> int:
        """How many ids `encode` would give without an end of the context.

        >>> from diptych.inputs import ClipTokenizer
        >>> ClipTokenizer(context_length=8).length("word " * 100)
        102
        """
        return 2 + sum(map(len, map(self._words.__getitem__, self._split(text))))

    def _split(self, text: str) -> list[str]:
        """What stands between spaces in a cleaned caption."""
        text = bounded(check_text(text), self.context_length)
        if not _is_clean(text):
            text = unescaped(text)
        return text.lower().split()

    def decode(self, ids: Sequence[int] | Int[Tensor, " length"]) -> str:
        """The text up to the first end token, in lower case, words and signs apart.

        >>> from diptych.inputs import ClipTokenizer
        >>> tokenizer = ClipTokenizer()
        >>> tokenizer.decode(tokenizer("Two dogs, running!")[0])
        'two dogs , running !'
        """
        vocabulary = read_vocabulary()
        kept = list[int]()
        for number in map(int, ids):
            if number == self.end_id:
                break
            if number != self.start_id:
                kept.append(number)
        return vocabulary.decode(kept).strip()

    def save(self, folder: str | Path) -> None:
        """Nothing to write: the vocabulary comes with a package that is always installed."""


class DeclipTokenizer(ClipTokenizer):
    """DeCLIP's 49,409 tokens (Li et al. 2021, arXiv:2110.05208): one is the mask token, and so the
    start and the end of a text have ids one further than CLIP's.

    >>> from diptych.inputs import DeclipTokenizer
    >>> DeclipTokenizer().encode("a cat")
    [49407, 320, 2368, 49408]
    """

    vocab_size = 49409
    mask_id = 49406
    start_id, end_id = 49407, 49408
    special_ids = frozenset({49406, 49407, 49408})
    special = MappingProxyType({"<|startoftext|>": 49407, "<|endoftext|>": 49408})
