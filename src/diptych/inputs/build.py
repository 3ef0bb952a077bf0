"""The choice among tokenizers."""

from pathlib import Path
from typing import assert_never

from diptych.config import TokenizerConfig
from diptych.errors import ConfigError
from diptych.inputs.clip_tokenizer import ClipTokenizer, DeclipTokenizer
from diptych.inputs.huggingface_tokenizer import HuggingFaceTokenizer
from diptych.inputs.tokenizer import Tokenizer


def build_tokenizer(
    config: TokenizerConfig, context_length: int = 77, folder: str | Path | None = None
) -> Tokenizer:
    """The tokenizer that `config` describes.

    `folder` is where `Tokenizer.save` wrote: a Hugging Face tokenizer is read from there when it
    has the files, else from `config.name`. Raises ConfigError when a tokenizer can't be found or
    `context_length` is below 3.

    >>> from diptych.config import TokenizerConfig
    >>> from diptych.inputs import build_tokenizer
    >>> tokenizer = build_tokenizer(TokenizerConfig(), context_length=32)
    >>> tokenizer.decode(tokenizer.encode("A  diptych &amp; more"))
    'a diptych & more'
    """
    if context_length < 3:
        raise ConfigError(
            f"context_length {context_length} leaves no room for text between two special tokens"
        )
    match config.kind:
        case "clip":
            return ClipTokenizer(context_length)
        case "declip":
            return DeclipTokenizer(context_length)
        case "huggingface":
            saved = folder is not None and (Path(folder) / "tokenizer_config.json").is_file()
            return HuggingFaceTokenizer(str(folder) if saved else config.name, context_length)
        case _:
            assert_never(config.kind)
