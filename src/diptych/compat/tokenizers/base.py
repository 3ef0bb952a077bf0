"""What open_clip's tokenizers have in common: a call gives ids that are padded to the context."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from diptych.errors import ConfigError
from diptych.inputs import Tokenizer
from diptych.inputs.tokenizer import pad_rows
from diptych.inputs.truncation import Truncated, find_truncated, warn_if_truncated

DEFAULT_CONTEXT_LENGTH = 77
_NO_CONTEXT = 1 << 16
"""Ids that no text has: for what is encoded whole."""
Row = Sequence[int] | Int[Tensor, " length"]
"""One text's ids."""
Rows = Sequence[Row] | Int[Tensor, "texts length"]


class NoMaskError(ConfigError, NotImplementedError):
    """A mask of texts whose model was trained to read padding; open_clip raises
    NotImplementedError."""


class OpenClipTokenizer:
    """A callable: texts to ids, padded to `context_length`; longer texts are cut, and end as all
    do."""

    sot_token_id: int | None = None
    """The start of a text; None: it has none."""
    eot_token_id: int | None = None
    """Its end."""
    pad_token_id: int | None = None
    """What follows the end and means nothing else; None: 0 does, which is a word, too."""
    no_mask = ""
    """Why there is no `output_mask`; empty: there is one."""

    def __init__(self, tokenizer: Tokenizer):
        """`tokenizer`: Diptych's."""
        self._of_length = {tokenizer.context_length: tokenizer}
        self.context_length = tokenizer.context_length

    def of_length(self, length: int) -> Tokenizer:
        """Diptych's tokenizer, for a context of so many ids. Raises ConfigError below 3."""
        if length < 3:
            raise ConfigError(
                f"context_length={length} leaves no room for text between start and end"
            )
        if length not in self._of_length:
            other = copy.copy(next(iter(self._of_length.values())))
            other.context_length = length
            self._of_length[length] = other
        return self._of_length[length]

    @property
    def vocab_size(self) -> int:
        """Different ids."""
        return self.of_length(self.context_length).vocab_size

    @property
    def all_special_ids(self) -> list[int]:
        """Ids that are no words."""
        return sorted(self.of_length(self.context_length).special_ids)

    @property
    def bos_token_id(self) -> int | None:
        """`sot_token_id` by its other name."""
        return self.sot_token_id

    @property
    def eos_token_id(self) -> int | None:
        """`eot_token_id` by its other name."""
        return self.eot_token_id

    def __call__(
        self,
        texts: str | Sequence[str],
        context_length: int | None = None,
        pad: bool = True,
        output_mask: bool = False,
        add_special_tokens: bool = True,
    ) -> Any:
        """[texts, context_length] ids of one or several texts.

        `pad=False`: a list of as many ids as each text has. `output_mask`: the ids, and which of
        them are the text's, as booleans. `add_special_tokens`: with start and end. Raises
        ConfigError for a mask of what isn't padded, and `pad=False` where padding is a word; and
        NoMaskError for a mask where padding is read, too (`no_mask`).
        """
        if output_mask and self.no_mask:
            raise NoMaskError(
                f"{self.no_mask}, so {type(self).__name__} gives no output_mask; leave it out"
            )
        length = context_length or self.context_length
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = self._rows(texts, length, add_special_tokens)
        if pad:
            fill = self.of_length(max(3, length)).pad_id
            return masked(rows, fill, length, output_mask)
        if output_mask or self.pad_token_id is None:
            raise ConfigError(
                "pad=False with output_mask=True: each row is its text's ids, and needs no mask"
                if output_mask
                else f"{type(self).__name__} does not support variable-length texts, pad=False: it "
                "has no id that is padding alone (0 is a word); take a tokenizer of transformers "
                "that has one"
            )
        return [torch.tensor(row, dtype=torch.long) for row in rows]

    def _rows(self, texts: list[str], length: int, add_special_tokens: bool) -> list[list[int]]:
        """The ids of each text, at most `length`. Texts that are longer are counted in a
        TruncationWarning."""
        if add_special_tokens:
            tokenizer = self.of_length(length)
            rows = [tokenizer.encode(text) for text in texts]
            found = find_truncated(tokenizer, texts, rows)
        else:
            rows = [self.encode(text) for text in texts]
            long = [text for text, row in zip(texts, rows, strict=True) if len(row) > length]
            found = (
                Truncated(count=len(long), of=len(texts), first=long[0], context=length)
                if long
                else None
            )
            rows = [row[:length] for row in rows]
        warn_if_truncated(found, stacklevel=4)
        return rows

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The ids of the whole text, however long; `add_special_tokens`: with start and end."""
        ids = self.of_length(_NO_CONTEXT).encode(text)
        return ids if add_special_tokens else ids[1:-1]

    def save_pretrained(self, dest: str | Path) -> Any:
        """Write files from which transformers reads the same vocabulary into a folder. Raises
        ConfigError where there are none such."""
        raise ConfigError(
            f"transformers has no files for this {type(self).__name__}; give it another tokenizer"
        )

    def decode(
        self,
        tokens: Row,
        skip_special_tokens: bool = False,
        stop_at_eos: bool = True,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """The text of one row of ids.

        `skip_special_tokens`: without start and end. `stop_at_eos`: without what is behind the
        end, which is padding. `clean_up_tokenization_spaces`: as `clean_up_tokenization`.
        """
        ids = [int(number) for number in tokens]
        if stop_at_eos and self.eot_token_id in ids:
            ids = ids[: ids.index(self.eot_token_id) + 1]
        text = self._text(ids, skip_special_tokens)
        return clean_up_tokenization(text) if clean_up_tokenization_spaces else text

    def _text(self, ids: list[int], skip_special_tokens: bool) -> str:
        """Of all these ids. Diptych's own tokenizers show no start and no end."""
        return self.of_length(self.context_length).decode(ids)

    def batch_decode(
        self,
        batch_tokens: Rows,
        skip_special_tokens: bool = False,
        stop_at_eos: bool = True,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[str]:
        """`decode` of each row."""
        options = (skip_special_tokens, stop_at_eos, clean_up_tokenization_spaces)
        return [self.decode(row, *options) for row in batch_tokens]


def clean_up_tokenization(text: str) -> str:
    """A text without the spaces that decoding puts before punctuation and in contractions, as
    transformers' function of this name does it for English.

    >>> from diptych.compat.tokenizer import clean_up_tokenization
    >>> clean_up_tokenization("it 's a cat , is n't it ?")
    "it's a cat, isn't it?"
    """
    return re.sub(r" ([.?!,]|n't|'m|'s|'ve|'re)", r"\1", text.replace(" ' ", "'"))


def masked(rows: Sequence[Sequence[int]], fill: int, length: int, output_mask: bool) -> Any:
    """Rows of ids padded to [rows, length] with `fill`; with `output_mask` also which of them are
    the rows' own: by their lengths, so it holds where `fill` is a word, too."""
    ids = pad_rows(rows, fill, length)
    if not output_mask:
        return ids
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(length) < lengths[:, None]
