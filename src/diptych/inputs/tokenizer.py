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


def check_text(text: object) -> str:
    """`text` itself. Raises DataError for what is not text: an empty cell of a table, say."""
    if not isinstance(text, str):
        raise DataError(f"a caption must be text, not {type(text).__name__}: {text!r:.60}")
    return text


class Tokenizer(ABC):
    """Captions to ids. Holds no open files and no locks: it can be pickled and shared by threads."""

    context_length: int
    """The longest sequence of ids, special tokens included."""
    vocab_size: int
    pad_id: int
    """What follows the shorter captions of a batch."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of one caption with its special tokens, at most `context_length`; truncation keeps the last one."""

    @abstractmethod
    def decode(self, ids: Sequence[int] | Int[Tensor, " length"]) -> str:
        """The text of one row of ids, without special tokens and padding."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write what `build_tokenizer(config, context_length, folder)` needs besides the config."""

    def __call__(self, texts: str | Sequence[str], pad_to: int | None = None) -> Int[Tensor, "texts length"]:
        """The ids of one or several captions, padded to the longest of them, or to `pad_to` ids.

        >>> from diptych.config import TokenizerConfig
        >>> from diptych.inputs import build_tokenizer
        >>> tokenizer = build_tokenizer(TokenizerConfig())
        >>> tokenizer(["a cat", "a photo of two dogs"])
        tensor([[49406,   320,  2368, 49407,     0,     0,     0],
                [49406,   320,  1125,   539,  1237,  3255, 49407]])
        >>> tokenizer("a cat", pad_to=77).shape
        torch.Size([1, 77])
        """
        rows = [self.encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        longest = int(lengths.max(initial=0))
        if pad_to is not None and pad_to < longest:
            raise ConfigError(f"pad_to is {pad_to}, but a caption has {longest} ids; pad to {self.context_length}")
        ids = np.full((len(rows), longest if pad_to is None else pad_to), self.pad_id, dtype=np.int64)
        ids[np.arange(ids.shape[1]) < lengths[:, None]] = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
        return torch.from_numpy(ids)
