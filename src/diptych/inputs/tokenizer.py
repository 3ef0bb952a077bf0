"""From captions to ids: what all tokenizers share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from diptych.errors import ConfigError, DataError

LETTERS = 1 << 8
"""Letters for each id of the context, after which a text is cut."""
LONGEST = 1 << 22
"""Letters of a text that are looked at."""


def check_text(text: object) -> str:
    """`text` itself. Raises DataError for what is not text: an empty cell of a table, say."""
    if not isinstance(text, str):
        raise DataError(f"a caption must be text, not {type(text).__name__}: {text!r:.60}")
    return text


def bounded(text: str, context_length: int) -> str:
    """The beginning of a text that is far longer than the context: cleaning and merging a megabyte
    takes many seconds, for a few dozen ids.

    No id depends on what is left out in a text of words: they have at least one id each, and
    LETTERS of them are eight times those of CLIP's longest symbol. In one word of tens of
    thousands of letters, merges are those of its beginning.

    >>> from diptych.inputs.tokenizer import bounded
    >>> len(bounded("word " * 1_000_000, context_length=77))
    19712
    """
    most = LETTERS * context_length
    if len(text) <= most:
        return text
    # White space has no ids, however long it is.
    return " ".join(text[:LONGEST].split())[:most]


class Tokenizer(ABC):
    """Captions to ids. Holds no open files and no locks: it can be pickled and shared by
    threads."""

    context_length: int
    """The longest sequence of ids, special tokens included."""
    vocab_size: int
    pad_id: int
    """What follows the shorter captions of a batch."""
    mask_id: int | None = None
    """The mask token of masked language modelling; None: the vocabulary has none."""
    special_ids: frozenset[int]
    """Ids that are no words: the start, the end, the mask."""
    whole_length: bool = False
    """Whether texts are padded to the context where nothing else is asked for, not to the longest
    of them."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of one caption with its special tokens, at most `context_length`; truncation
        keeps the last one."""

    @abstractmethod
    def length(self, text: str) -> int:
        """How many ids the whole caption has, special tokens included, however long it is."""

    def truncates(self, text: str, ids: Sequence[int]) -> bool:
        """Whether `ids`, which `encode` gave, are the beginning of the caption alone."""
        # What was cut fills the context, so few captions are counted.
        return len(ids) >= self.context_length and self.length(text) > self.context_length

    @abstractmethod
    def decode(self, ids: Sequence[int] | Int[Tensor, " length"]) -> str:
        """The text of one row of ids, without special tokens and padding."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write what `build_tokenizer(config, context_length, folder)` needs besides the config."""

    def __call__(
        self, texts: str | Sequence[str], pad_to: int | None = None
    ) -> Int[Tensor, "texts length"]:
        """The ids of one or several captions, padded as `pad` does it.

        >>> from diptych.config import TokenizerConfig
        >>> from diptych.inputs import build_tokenizer
        >>> tokenizer = build_tokenizer(TokenizerConfig())
        >>> tokenizer(["a cat", "a photo of two dogs"])
        tensor([[49406,   320,  2368, 49407,     0,     0,     0],
                [49406,   320,  1125,   539,  1237,  3255, 49407]])
        >>> tokenizer("a cat", pad_to=77).shape
        torch.Size([1, 77])
        """
        return self.pad(
            [self.encode(text) for text in ([texts] if isinstance(texts, str) else texts)], pad_to
        )

    def pad(
        self, rows: Sequence[Sequence[int]], pad_to: int | None = None
    ) -> Int[Tensor, "texts length"]:
        """Encoded captions in one tensor, padded to `pad_to` ids; None: to the longest of them, or
        to the context (`whole_length`).

        >>> from diptych.inputs import ClipTokenizer
        >>> ClipTokenizer().pad([[49406, 320, 49407], [49406, 49407]])
        tensor([[49406,   320, 49407],
                [49406, 49407,     0]])
        """
        longest = max(map(len, rows), default=0)
        if pad_to is not None and pad_to < longest:
            raise ConfigError(
                f"pad_to is {pad_to}, but a caption has {longest} ids; pad to {self.context_length}"
            )
        whole = self.context_length if self.whole_length else None
        return pad_rows(rows, self.pad_id, whole if pad_to is None else pad_to)


def pad_rows(
    rows: Sequence[Sequence[int]], fill: int, length: int | None = None
) -> Int[Tensor, "rows length"]:
    """Rows of whole numbers in one tensor, each followed by `fill` up to `length`; None: the
    longest row's.

    >>> from diptych.inputs.tokenizer import pad_rows
    >>> pad_rows([[1, 2, 3], [4]], fill=-1)
    tensor([[ 1,  2,  3],
            [ 4, -1, -1]])
    """
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    padded = np.full(
        (len(rows), int(lengths.max(initial=0)) if length is None else length), fill, dtype=np.int64
    )
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.fromiter(
        chain.from_iterable(rows), dtype=np.int64
    )
    return torch.from_numpy(padded)
