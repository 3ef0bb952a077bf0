"""Tokenizers as open_clip's and clip's callers know them: always padded to the context."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from diptych.checkpoints.describe import read_config
from diptych.config import TokenizerConfig
from diptych.inputs import ClipTokenizer, build_tokenizer


@dataclass(frozen=True)
class OpenClipTokenizer:
    """A callable: texts to ids, padded to the context; longer texts are cut, and end as all do."""

    config: TokenizerConfig
    context_length: int

    def __call__(
        self, texts: str | Sequence[str], context_length: int | None = None
    ) -> Int[Tensor, "texts length"]:
        """[texts, context_length] ids of one or several texts."""
        length = context_length or self.context_length
        return build_tokenizer(self.config, length)(texts, pad_to=length)


def get_tokenizer(
    model_name: str | Path = "", context_length: int | None = None
) -> OpenClipTokenizer:
    """The tokenizer of a model: a name in any spelling, or a published JSON file. Without a name,
    CLIP's.

    Raises UnknownNameError for a name that nothing has.

    >>> from diptych.compat import get_tokenizer
    >>> get_tokenizer("EVA02-CLIP-B-16")(["a diagram", "a dog"]).shape
    torch.Size([2, 77])
    """
    config = read_config(model_name or None)
    if config is None:
        return OpenClipTokenizer(TokenizerConfig(), context_length or 77)
    return OpenClipTokenizer(config.tokenizer, context_length or config.text.context_length)


def tokenize(texts: str | Sequence[str], context_length: int = 77) -> Int[Tensor, "texts length"]:
    """CLIP's ids of texts, padded to `context_length`; longer texts are cut.

    >>> from diptych.compat import tokenize
    >>> tokenize("a cat").shape
    torch.Size([1, 77])
    """
    return ClipTokenizer(context_length)(texts, pad_to=context_length)
