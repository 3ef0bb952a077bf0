"""Steps of CLIP's byte-pair tokenizer by open_clip's and OpenAI's names, for scripts that clean
texts or split words themselves; the tokenizers here don't go by them.

https://github.com/openai/CLIP, clip/simple_tokenizer.py
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from diptych.compat.tokenizers.huggingface import CLEANING
from diptych.errors import UnknownNameError
from diptych.inputs.cleaning import cleaned, unescaped
from diptych.inputs.vocabulary import alphabet, path_of_merges


def default_bpe() -> str:
    """The path of the merges. Raises ConfigError where their package isn't installed."""
    return str(path_of_merges())


def bytes_to_unicode() -> dict[int, str]:
    """The printable character that stands for each byte.

    >>> from diptych.compat.tokenizer import bytes_to_unicode
    >>> bytes_to_unicode()[32], len(bytes_to_unicode())
    ('Ġ', 256)
    """
    return dict(alphabet())


def get_pairs(word: Sequence[str]) -> set[tuple[str, str]]:
    """The symbols of a word that stand side by side.

    >>> from diptych.compat.tokenizer import get_pairs
    >>> sorted(get_pairs("cat"))
    [('a', 't'), ('c', 'a')]
    """
    return set(pairwise(word))


def basic_clean(text: str) -> str:
    """Without broken encodings and HTML entities.

    >>> from diptych.compat.tokenizer import basic_clean, whitespace_clean
    >>> whitespace_clean(basic_clean(" Tom &amp;amp;  Jerry"))
    'Tom & Jerry'
    """
    return unescaped(text).strip()


def whitespace_clean(text: str) -> str:
    """With one space between words."""
    return " ".join(text.split())


def get_clean_fn(type: str) -> Callable[[str], str]:
    """What becomes of a text: `canonicalize`, `lower` or `whitespace`. Raises UnknownNameError for
    another word.

    >>> from diptych.compat.tokenizer import get_clean_fn
    >>> get_clean_fn("canonicalize")("A cat's  whiskers!")
    'a cats whiskers'
    """
    if type not in CLEANING:
        raise UnknownNameError("cleaning of texts", type, CLEANING)
    return partial(cleaned, how=CLEANING[type])
