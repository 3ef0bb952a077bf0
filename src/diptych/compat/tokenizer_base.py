"""What open_clip's tokenizers have in common: a call gives ids that are padded to the context."""

import copy
from collections.abc import Collection, Sequence
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from diptych.errors import ConfigError
from diptych.inputs import Tokenizer
from diptych.inputs.truncation import find_truncated, warn_if_truncated

DEFAULT_CONTEXT_LENGTH = 77
_NO_CONTEXT = 1 << 16
"""Ids that no text has: for what is encoded whole."""


class OpenClipTokenizer:
    """A callable: texts to ids, padded to `context_length`; longer texts are cut, and end as all
    do."""

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

    def __call__(
        self, texts: str | Sequence[str], context_length: int | None = None
    ) -> Int[Tensor, "texts length"]:
        """[texts, context_length] ids of one or several texts."""
        return padded(self.of_length(context_length or self.context_length), texts)

    def encode(self, text: str) -> list[int]:
        """The ids of the whole text, however long, with the tokenizer's own start and end."""
        return self.of_length(_NO_CONTEXT).encode(text)

    def save_pretrained(self, dest: str | Path) -> None:
        """Write files from which transformers reads the same vocabulary into a folder. Raises
        ConfigError where there are none such."""
        raise ConfigError(
            f"transformers has no files for this {type(self).__name__}; give it another tokenizer"
        )

    def decode(
        self, tokens: Sequence[int] | Int[Tensor, " length"], skip_special_tokens: bool = False
    ) -> str:
        """The text of one row of ids, without padding, and without start and end."""
        return self.of_length(self.context_length).decode(tokens)

    def batch_decode(
        self,
        batch_tokens: Sequence[Sequence[int]] | Int[Tensor, "texts length"],
        skip_special_tokens: bool = False,
    ) -> list[str]:
        """`decode` of each row."""
        return [self.decode(row, skip_special_tokens) for row in batch_tokens]


def without(special: Collection[int], end: int, row: Sequence[int] | Tensor) -> list[int]:
    """The ids of a row up to the end, of which none is special."""
    ids = [int(number) for number in row]
    ids = ids[: ids.index(end)] if end in ids else ids
    return [number for number in ids if number not in special]


def padded(tokenizer: Tokenizer, texts: str | Sequence[str]) -> Int[Tensor, "texts length"]:
    """Ids padded to the context. Texts beyond it are cut, and counted in a TruncationWarning."""
    texts = [texts] if isinstance(texts, str) else list(texts)
    rows = [tokenizer.encode(text) for text in texts]
    warn_if_truncated(find_truncated(tokenizer, texts, rows), stacklevel=3)
    return tokenizer.pad(rows, tokenizer.context_length)
