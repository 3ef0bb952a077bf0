"""Texts that are too long, without words drawn at random in place of a cut at the end: what CLIPA
trained with (Li et al. 2023, arXiv:2305.07017 §3.1). With the same seed open_clip draws the same.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diptych.compat.tokenizer_base import masked
from diptych.errors import ConfigError, UnknownNameError

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


_MASKS: dict[str, Callable[..., Any]] = {
    "simple": simple_mask_tokenize,
    "random": random_mask_tokenize,
    "shuffle": partial(random_mask_tokenize, shuffle=True),
}


def get_reduction_mask_fn(type: str) -> Callable[..., Any]:
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
