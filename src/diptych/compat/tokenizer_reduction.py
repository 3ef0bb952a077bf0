"""Texts that are too long, without words drawn at random in place of a cut at the end: what CLIPA
trained with (Li et al. 2023, arXiv:2305.07017 §3.1). With the same seed open_clip draws the same.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from diptych.errors import ConfigError, UnknownNameError

Encode = Callable[[str], Sequence[int]]
Ids = Int[Tensor, "texts length"]


def random_mask_tokenize(
    texts: Sequence[str],
    context_length: int,
    sot_token_id: int,
    eot_token_id: int,
    encode_fn: Encode,
    shuffle: bool = False,
) -> Ids:
    """Ids of texts between start and end, padded with 0. Of a longer text ids at random places, in
    their order, or with `shuffle` in a random one. torch draws them."""

    def kept(ids: Tensor, room: int) -> Tensor:
        places = torch.randperm(len(ids))[:room]
        return ids[places if shuffle else places.msort()]

    return _rows(texts, context_length, (sot_token_id, eot_token_id), encode_fn, kept)


def simple_mask_tokenize(
    texts: Sequence[str],
    context_length: int,
    sot_token_id: int,
    eot_token_id: int,
    encode_fn: Encode,
) -> Ids:
    """The same, and of a longer text neighbours that begin at a random place, which Python's
    `random` draws."""

    def kept(ids: Tensor, room: int) -> Tensor:
        first = random.randint(0, len(ids) - room)
        return ids[first : first + room]

    return _rows(texts, context_length, (sot_token_id, eot_token_id), encode_fn, kept)


_MASKS: dict[str, Callable[..., Ids]] = {
    "simple": simple_mask_tokenize,
    "random": random_mask_tokenize,
    "shuffle": partial(random_mask_tokenize, shuffle=True),
}


def get_reduction_mask_fn(type: str) -> Callable[..., Ids]:
    """The function of a `reduction_mask`: `simple`, `random`, or `shuffle`. Raises ConfigError for
    `syntax`, and UnknownNameError for another word.

    >>> import torch
    >>> from diptych.compat import SimpleTokenizer
    >>> tokenizer = SimpleTokenizer(context_length=5, reduction_mask="random")
    >>> _ = torch.manual_seed(0)
    >>> tokenizer.decode(tokenizer("a b c d e f")[0])
    '<start_of_text>c d f <end_of_text>'
    """
    if type == "syntax":
        raise ConfigError(
            "reduction_mask='syntax' has no counterpart in Diptych, which tags no words; "
            "simple, random and shuffle have"
        )
    if type not in _MASKS:
        raise UnknownNameError("reduction_mask", type, _MASKS)
    return _MASKS[type]


def _rows(
    texts: Sequence[str],
    length: int,
    ends: tuple[int, int],
    encode: Encode,
    kept: Callable[[Tensor, int], Tensor],
) -> Ids:
    result, room = torch.zeros(len(texts), length, dtype=torch.long), length - 2
    for row, text in zip(result, texts, strict=True):
        ids: Any = torch.tensor(encode(text), dtype=torch.long)
        if len(ids) > room:
            ids = kept(ids, room)
        row[0], row[len(ids) + 1] = ends
        row[1 : len(ids) + 1] = ids
    return result
