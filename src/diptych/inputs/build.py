"""The choice among tokenizers."""

from pathlib import Path
from typing import Any, assert_never

from diptych.config import ClipConfig, TokenizerConfig
from diptych.errors import ConfigError
from diptych.inputs.clip_tokenizer import ClipTokenizer, DeclipTokenizer
from diptych.inputs.huggingface_tokenizer import HuggingFaceTokenizer
from diptych.inputs.strangers import check_repository
from diptych.inputs.tiktoken_tokenizer import TiktokenEncoding, encoding_of
from diptych.inputs.tokenizer import Tokenizer

_SAVED = "tokenizer_config.json"
"""What every saved tokenizer of transformers has."""
_WORDS = "vocab.txt"
"""All that folders of BERT's kind have, whose config.json tells the tokenizer."""


def tokenizer_of(config: ClipConfig, folder: str | Path | None = None) -> Tokenizer:
    """A model's tokenizer, which pads texts to the context where its text tower sees padding. Else
    as `build_tokenizer`.

    >>> from diptych import pretrained
    >>> from diptych.inputs import tokenizer_of
    >>> tokenizer_of(pretrained.get("tiny"))("a cat").shape
    torch.Size([1, 4])
    """
    tokenizer = build_tokenizer(config.tokenizer, config.text.context_length, folder)
    tokenizer.whole_length = config.text.padding == "seen"
    return tokenizer


def build_tokenizer(
    config: TokenizerConfig,
    context_length: int = 77,
    folder: str | Path | None = None,
    *,
    cache_dir: str | Path | None = None,
) -> Tokenizer:
    """The tokenizer that `config` describes.

    `folder` is where weights came from, and where `Tokenizer.save` wrote: a Hugging Face tokenizer
    is read from there when it has the files. Else from `config.name`: without a `folder` from
    anywhere, as the user says; with one, which may be a stranger's, from a repository that the
    hub's cache already holds. `cache_dir`: where what is fetched from the hub lies (None:
    huggingface_hub's own place). Raises ConfigError when a tokenizer can't be found or
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
            options: dict[str, Any] = {
                "clean": config.clean,
                "blank_separator": config.blank_separator,
                "class_last": config.class_last,
                "cache_dir": cache_dir,
            }
            if folder is None:
                return HuggingFaceTokenizer(config.name, context_length, **options)
            saved = any((Path(folder) / name).is_file() for name in (_SAVED, _WORDS))
            if not saved and Path(config.name) == Path(folder):
                raise ConfigError(
                    f"{folder} lacks the model's tokenizer: put its files ({_SAVED} and those "
                    "beside it) into the folder"
                )
            name = str(folder) if saved else check_repository(config.name, "tokenizer")
            return HuggingFaceTokenizer(name, context_length, cached=True, **options)
        case "tiktoken":
            return TiktokenEncoding(encoding_of(config.name, folder), context_length, config.clean)
        case _:
            assert_never(config.kind)
