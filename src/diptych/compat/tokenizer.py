"""Tokenizers as open_clip's and clip's callers know them: always padded to the context."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from diptych import pretrained as published
from diptych.checkpoints.content import read
from diptych.checkpoints.describe import read_config
from diptych.compat import places
from diptych.compat.options import refuse
from diptych.compat.pretrained import configured
from diptych.config import ClipConfig, TokenizerConfig
from diptych.errors import UnknownNameError
from diptych.inputs import ClipTokenizer, Tokenizer, build_tokenizer
from diptych.inputs.truncation import find_truncated, warn_if_truncated


@dataclass(frozen=True)
class OpenClipTokenizer:
    """A callable: texts to ids, padded to the context; longer texts are cut, and end as all do."""

    config: TokenizerConfig
    context_length: int
    folder: Path | None = None
    """Where the tokenizer's own files lie, if it has any."""

    def __call__(
        self, texts: str | Sequence[str], context_length: int | None = None
    ) -> Int[Tensor, "texts length"]:
        """[texts, context_length] ids of one or several texts."""
        length = context_length or self.context_length
        return padded(build_tokenizer(self.config, length, self.folder), texts)


def get_tokenizer(
    model_name: str | Path = "",
    context_length: int | None = None,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> OpenClipTokenizer:
    """The tokenizer of a model: of a name in any spelling, a published JSON file, or a place of
    weights (`hf-hub:org/name`, `local-dir:FOLDER`, a folder, a file). Without a name, CLIP's.

    Raises UnknownNameError for a name that nothing has, and ConfigError for an option that can't be
    honoured.

    >>> from diptych.compat import get_tokenizer
    >>> get_tokenizer("EVA02-CLIP-B-16")(["a diagram", "a dog"]).shape
    torch.Size([2, 77])
    """
    refuse(options)
    name, folder = str(configured(model_name)), None
    if places.is_place(name):
        path, config = places.find(name, None, cache_dir)
        assert path is not None
        folder = path if path.is_dir() else path.parent
        config = config or read(path).config
        assert isinstance(config, ClipConfig)
    else:
        config = _named(name)
    if config is None:
        return OpenClipTokenizer(TokenizerConfig(), context_length or 77)
    return OpenClipTokenizer(config.tokenizer, context_length or config.text.context_length, folder)


def _named(name: str) -> ClipConfig | None:
    """The configuration of a name; None without one, and for those of which Diptych knows weights
    alone: they have CLIP's tokenizer."""
    try:
        return read_config(name or None)
    except UnknownNameError:
        if not published.tagged(name):
            raise
        return None


def tokenize(texts: str | Sequence[str], context_length: int = 77) -> Int[Tensor, "texts length"]:
    """CLIP's ids of texts, padded to `context_length`; longer texts are cut, with a warning.

    >>> from diptych.compat import tokenize
    >>> tokenize("a cat").shape
    torch.Size([1, 77])
    """
    return padded(ClipTokenizer(context_length), texts)


def decode(ids: Sequence[int] | Int[Tensor, " length"]) -> str:
    """The text of one row of CLIP's ids, with open_clip's words for start and end, and without
    padding.

    >>> from diptych.compat import decode, tokenize
    >>> decode(tokenize("a cat")[0])
    '<start_of_text>a cat <end_of_text>'
    """
    row, tokenizer = [int(number) for number in ids], ClipTokenizer()
    start, end = tokenizer.encode("")
    first = "<start_of_text>" if row[:1] == [start] else ""
    last = " <end_of_text>" if end in row else ""
    return f"{first}{tokenizer.decode(row)}{last}"


def padded(tokenizer: Tokenizer, texts: str | Sequence[str]) -> Int[Tensor, "texts length"]:
    """Ids padded to the context. Texts beyond it are cut, and counted in a TruncationWarning."""
    texts = [texts] if isinstance(texts, str) else list(texts)
    rows = [tokenizer.encode(text) for text in texts]
    warn_if_truncated(find_truncated(tokenizer, texts, rows), stacklevel=3)
    return tokenizer.pad(rows, tokenizer.context_length)
