"""Texts that are too long, without words drawn at random in place of a cut at the end: what CLIPA
trained with (Li et al. 2023, arXiv:2305.07017 §3.1). With the same seed open_clip draws the same.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.compat.tokenizers.base import masked
from diptych.errors import ConfigError, UnknownNameError
from diptych.inputs.text_augment import without_nltk

Encode = Callable[[str], Sequence[int]]


def random_mask_tokenize(
    texts: Sequence[str],
    context_length: int,
    sot_token_id: int,
    eot_token_id: int,
    encode_fn: Encode,
    shuffle: bool = False,
    add_special_tokens: bool = True,
    output_mask: bool = False,
) -> Any:
    """Ids of texts, between start and end (`add_special_tokens`), padded with 0; with `output_mask`
    also which of them aren't padding. Of a longer text ids at random places, in their order, or
    with `shuffle` in a random one. torch draws them."""

    def kept(ids: Tensor, room: int) -> Tensor:
        places = torch.randperm(len(ids))[:room]
        return ids[places if shuffle else places.msort()]

    ends = (sot_token_id, eot_token_id) if add_special_tokens else None
    return _reduced(texts, context_length, ends, encode_fn, kept, output_mask)


def simple_mask_tokenize(
    texts: Sequence[str],
    context_length: int,
    sot_token_id: int,
    eot_token_id: int,
    encode_fn: Encode,
    add_special_tokens: bool = True,
    output_mask: bool = False,
) -> Any:
    """The same, and of a longer text neighbours that begin at a random place, which Python's
    `random` draws."""

    def kept(ids: Tensor, room: int) -> Tensor:
        first = random.randint(0, len(ids) - room)
        return ids[first : first + room]

    ends = (sot_token_id, eot_token_id) if add_special_tokens else None
    return _reduced(texts, context_length, ends, encode_fn, kept, output_mask)


def syntax_mask_tokenize(
    texts: Sequence[str],
    context_length: int,
    sot_token_id: int,
    eot_token_id: int,
    encode_fn: Encode,
    add_special_tokens: bool = True,
    output_mask: bool = False,
) -> Any:
    """The same, and of a text with more words than the context nouns first, then adjectives, verbs
    and others, in their order, as NLTK tags them. Raises ConfigError without NLTK or its data."""
    ends = (sot_token_id, eot_token_id) if add_special_tokens else None
    room = context_length - len(ends or ())
    telling = [_most_telling(text, room) for text in texts]

    def kept(ids: Tensor, room: int) -> Tensor:
        return ids[:room]  # some words have several ids

    return _reduced(telling, context_length, ends, encode_fn, kept, output_mask)


def _most_telling(text: str, most: int) -> str:
    try:
        import nltk

        tagged: list[tuple[str, str]] = nltk.pos_tag(nltk.word_tokenize(text))
    except (ImportError, LookupError) as error:
        data = "punkt_tab averaged_perceptron_tagger_eng"
        raise ConfigError(
            without_nltk("reduction_mask='syntax' tags words", error, data)
        ) from error
    ranks = [_KINDS.get(tag[:2], len(_KINDS)) for _, tag in tagged]
    # numpy's order of equals, which isn't Python's, decides which words open_clip keeps.
    places = sorted(np.argsort(np.array(ranks, dtype=np.int64))[:most].tolist())
    return " ".join(tagged[place][0] for place in places)


_KINDS = {"NN": 0, "JJ": 1, "VB": 2}
"""Nouns, adjectives and verbs, by how the Penn Treebank's tags begin."""
_MASKS: dict[str, Callable[..., Any]] = {
    "simple": simple_mask_tokenize,
    "random": random_mask_tokenize,
    "shuffle": partial(random_mask_tokenize, shuffle=True),
    "syntax": syntax_mask_tokenize,
}


def get_reduction_mask_fn(type: str) -> Callable[..., Any]:
    """The function of a `reduction_mask`: `simple`, `random`, `shuffle` or `syntax`. Raises
    UnknownNameError for another word.

    >>> import torch
    >>> from diptych.compat import SimpleTokenizer
    >>> tokenizer = SimpleTokenizer(context_length=5, reduction_mask="random")
    >>> _ = torch.manual_seed(0)
    >>> tokenizer.decode(tokenizer("a b c d e f")[0])
    '<start_of_text>c d f <end_of_text>'
    """
    if type not in _MASKS:
        raise UnknownNameError("reduction_mask", type, _MASKS)
    return _MASKS[type]


def _reduced(
    texts: Sequence[str],
    length: int,
    ends: tuple[int, int] | None,
    encode: Encode,
    kept: Callable[[Tensor, int], Tensor],
    output_mask: bool,
) -> Any:
    rows, room = list[list[int]](), length - len(ends or ())
    for text in texts:
        ids: Any = torch.tensor(encode(text), dtype=torch.long)
        if len(ids) > room:
            ids = kept(ids, room)
        rows.append([ends[0], *ids.tolist(), ends[1]] if ends else ids.tolist())
    return masked(rows, 0, length, output_mask)
