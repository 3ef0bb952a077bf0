"""Masked language modelling (MLM): captions of which some tokens are masked, and the labels that a
model learns to predict.

A function of a random generator alone, so that a sample's views can be made again.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diptych.config import WordsConfig
from diptych.errors import ConfigError
from diptych.inputs.tokenizer import Tokenizer

IGNORE_INDEX = -100
"""The label of a token that isn't to be predicted; torch's cross-entropy passes it over."""
_TO_MASK, _TO_RANDOM = 0.8, 0.1


class MaskedTokens(NamedTuple):
    """A caption for masked language modelling; both lists have the length of the caption."""

    ids: list[int]
    """What the model reads."""
    labels: list[int]
    """The id that was there where it is to be predicted, IGNORE_INDEX elsewhere."""


class MaskTokens:
    """Chooses a share of a caption's tokens to be predicted: of these, 80 % become the mask token,
    10 % a random token, and 10 % stay (BERT, Devlin et al. 2018, arXiv:1810.04805, §3.1).

    Raises ConfigError for a tokenizer without a mask token.

    >>> import numpy as np
    >>> from diptych.config import WordsConfig
    >>> from diptych.inputs import DeclipTokenizer
    >>> from diptych.inputs.masking import MaskTokens
    >>> tokenizer = DeclipTokenizer()
    >>> mask = MaskTokens(WordsConfig(hide=0.5), tokenizer)
    >>> mask(tokenizer.encode("two red cars"), np.random.default_rng(1))
    MaskedTokens(ids=[49407, 1237, 49406, 3346, 49408], labels=[-100, -100, 736, -100, -100])
    """

    def __init__(self, config: WordsConfig, tokenizer: Tokenizer):
        if tokenizer.mask_id is None:
            raise ConfigError(
                "masked captions need a tokenizer with a mask token: tokenizer.kind 'declip', "
                "or a Hugging Face tokenizer that has one"
            )
        self.config, self.mask_id = config, tokenizer.mask_id
        self.vocab_size, self.special_ids = tokenizer.vocab_size, tokenizer.special_ids

    def __call__(self, ids: Sequence[int], rng: np.random.Generator) -> MaskedTokens:
        """The same `rng` state masks the same tokens; special tokens are never chosen."""
        count = len(ids)
        chosen, fate = rng.random(count) < self.config.hide, rng.random(count)
        ordinary = [number not in self.special_ids for number in ids]
        return mask_tokens(
            ids,
            chosen=(chosen & np.array(ordinary, bool)).tolist(),
            # One draw from [0, 1) decides: the mask below 0.8, a random token up to 0.9. The rest
            # stays, because a mask never stands in a caption at inference: the model has to learn
            # vectors of words that it can read, too.
            masked=(fate < _TO_MASK).tolist(),
            replaced=((fate >= _TO_MASK) & (fate < _TO_MASK + _TO_RANDOM)).tolist(),
            random_ids=rng.integers(self.vocab_size, size=count).tolist(),
            mask_id=self.mask_id,
        )


def mask_tokens(
    ids: Sequence[int],
    *,
    chosen: Sequence[bool],
    masked: Sequence[bool],
    replaced: Sequence[bool],
    random_ids: Sequence[int],
    mask_id: int,
) -> MaskedTokens:
    """At each place that is `chosen`: `mask_id` where `masked`, else the random id where
    `replaced`, else the id itself. All sequences have the length of `ids`.

    >>> from diptych.inputs.masking import mask_tokens
    >>> mask_tokens([5, 6, 7], chosen=[True, True, False], masked=[True, False, True],
    ...             replaced=[False, True, False], random_ids=[1, 2, 3], mask_id=9)
    MaskedTokens(ids=[9, 2, 7], labels=[5, 6, -100])
    """
    shown, labels = list[int](), list[int]()
    draws = zip(ids, chosen, masked, replaced, random_ids, strict=True)
    for number, is_chosen, is_masked, is_replaced, random_id in draws:
        substitute = mask_id if is_masked else random_id if is_replaced else number
        shown.append(substitute if is_chosen else number)
        labels.append(number if is_chosen else IGNORE_INDEX)
    return MaskedTokens(shown, labels)
