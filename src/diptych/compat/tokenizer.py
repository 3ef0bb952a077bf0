"""Tokenizers as open_clip's and clip's callers know them: always padded to the context."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from diptych import pretrained as published
from diptych.checkpoints.content import read
from diptych.checkpoints.describe import read_config
from diptych.compat.listing import configured
from diptych.compat.loading import places
from diptych.compat.loading.description import description
from diptych.compat.loading.genlip_configs import described
from diptych.compat.loading.options import refuse
from diptych.compat.tokenizers.base import (
    DEFAULT_CONTEXT_LENGTH,
    OpenClipTokenizer,
    Row,
    Rows,
    clean_up_tokenization,
)
from diptych.compat.tokenizers.byte_pairs import (
    basic_clean,
    bytes_to_unicode,
    default_bpe,
    get_clean_fn,
    get_pairs,
    whitespace_clean,
)
from diptych.compat.tokenizers.huggingface import CLEANING, HFTokenizer, SigLipTokenizer
from diptych.compat.tokenizers.reduction import (
    get_reduction_mask_fn,
    random_mask_tokenize,
    simple_mask_tokenize,
    syntax_mask_tokenize,
)
from diptych.compat.tokenizers.simple import SimpleTokenizer
from diptych.compat.tokenizers.tiktoken import TikTokenTokenizer
from diptych.config import ClipConfig, TokenizerConfig
from diptych.errors import UnknownNameError
from diptych.inputs import HuggingFaceTokenizer, build_tokenizer
from diptych.inputs.tiktoken_tokenizer import TiktokenEncoding

__all__ = [
    "DEFAULT_CONTEXT_LENGTH",
    "HFTokenizer",
    "OpenClipTokenizer",
    "SigLipTokenizer",
    "SimpleTokenizer",
    "TikTokenTokenizer",
    "Tokenizer",
    "basic_clean",
    "batch_decode",
    "bytes_to_unicode",
    "canonicalize_text",
    "clean_up_tokenization",
    "decode",
    "default_bpe",
    "get_clean_fn",
    "get_pairs",
    "get_reduction_mask_fn",
    "get_tokenizer",
    "random_mask_tokenize",
    "simple_mask_tokenize",
    "syntax_mask_tokenize",
    "tokenize",
    "whitespace_clean",
]

Tokenizer = OpenClipTokenizer
"""What all tokenizers can do, by open_clip's name for it."""
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def get_tokenizer(
    model_name: str | Path = "",
    context_length: int | None = None,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> OpenClipTokenizer:
    """The tokenizer of a model: of a name in any spelling, a published JSON file, or a place of
    weights (`hf-hub:org/name`, `local-dir:FOLDER`, a folder, a file). Without a name, CLIP's.

    `cache_dir`: where what is fetched lies, weights and tokenizers alike. `options` are those of
    `SimpleTokenizer`, or of `HFTokenizer` where it is one of transformers'.
    Raises UnknownNameError for a name that nothing has, and ConfigError for an option that can't be
    honoured.

    >>> from diptych.compat import get_tokenizer
    >>> get_tokenizer("EVA02-CLIP-B-16")(["a diagram", "a dog"]).shape
    torch.Size([2, 77])
    """
    name, folder = str(configured(model_name)), None
    if (said := described(name, cache_dir)) is not None:
        return _of_captioner(dict(said["text_cfg"]), context_length, cache_dir, options)
    if (file := description(name, cache_dir)) is not None:
        folder, config = file.parent, read_config(file)
    elif places.is_place(name):
        path, config = places.find(name, None, cache_dir)
        assert path is not None
        folder = path if path.is_dir() else path.parent
        config = config or read(path).config
        assert isinstance(config, ClipConfig)
    else:
        config = _named(name)
    said = config.tokenizer if config else TokenizerConfig()
    length = context_length or (config.text.context_length if config else DEFAULT_CONTEXT_LENGTH)
    if said.kind == "clip":
        return SimpleTokenizer(context_length=length, **options)
    if said.kind == "huggingface":
        return _of_transformers(said, length, folder, cache_dir, options)
    refuse(options)
    made = build_tokenizer(said, length, folder)
    return (
        TikTokenTokenizer.of(made)
        if isinstance(made, TiktokenEncoding)
        else OpenClipTokenizer(made)
    )


def _of_captioner(
    text: dict[str, Any],
    context_length: int | None,
    cache_dir: str | Path | None,
    options: dict[str, Any],
) -> OpenClipTokenizer:
    """The tokenizer of a model that only writes captions, by its `text_cfg`."""
    said = {**(text.get("tokenizer_kwargs") or {}), **options}
    length = context_length or text.get("context_length", DEFAULT_CONTEXT_LENGTH)
    if text.get("hf_tokenizer_name"):
        mode = text.get("tokenizer_mode")
        options = {"cache_dir": cache_dir, "tokenizer_mode": mode} | said
        return HFTokenizer(text["hf_tokenizer_name"], length, **options)
    return TikTokenTokenizer(text.get("tiktoken_name", "cl100k_base"), length, **said)


def _of_transformers(
    config: TokenizerConfig,
    length: int,
    folder: Path | None,
    cache_dir: str | Path | None,
    options: dict[str, Any],
) -> HFTokenizer:
    options = dict(options)
    clean, language = options.pop("clean", None), options.pop("language", None)
    blank = options.pop("strip_sep_token", config.blank_separator)
    refuse(options)
    if clean is not None and clean not in CLEANING:
        raise UnknownNameError("cleaning of texts", clean, CLEANING)
    config = replace(
        config, blank_separator=blank, clean=CLEANING[clean] if clean else config.clean
    )
    tokenizer = build_tokenizer(config, length, folder, cache_dir=cache_dir)
    assert isinstance(tokenizer, HuggingFaceTokenizer)
    return HFTokenizer.of(tokenizer, language)


def _named(name: str) -> ClipConfig | None:
    """The configuration of a name; None without one, and for those of which Diptych knows weights
    alone: they have CLIP's tokenizer."""
    try:
        return read_config(name or None)
    except UnknownNameError:
        if not published.tagged(name):
            raise
        return None


@cache
def _clips() -> SimpleTokenizer:
    return SimpleTokenizer()


def tokenize(
    texts: str | Sequence[str], context_length: int = 77, add_special_tokens: bool = True
) -> Int[Tensor, "texts length"]:
    """CLIP's ids of texts, padded to `context_length`; longer texts are cut, with a warning.
    `add_special_tokens`: with start and end.

    >>> from diptych.compat import tokenize
    >>> tokenize("a cat").shape
    torch.Size([1, 77])
    """
    return _clips()(texts, context_length, add_special_tokens=add_special_tokens)


def decode(output_ids: Row, skip_special_tokens: bool = False, stop_at_eos: bool = True) -> str:
    """The text of one row of CLIP's ids, with open_clip's words for start and end unless they are
    skipped, and up to the end: `stop_at_eos=False` shows what is behind it, too.

    >>> from diptych.compat import decode, tokenize
    >>> decode(tokenize("a cat")[0])
    '<start_of_text>a cat <end_of_text>'
    """
    return _clips().decode(output_ids, skip_special_tokens, stop_at_eos)


def batch_decode(
    output_ids: Rows, skip_special_tokens: bool = False, stop_at_eos: bool = True
) -> list[str]:
    """`decode` of each row.

    >>> from diptych.compat.tokenizer import batch_decode, tokenize
    >>> batch_decode(tokenize(["a cat", "a dog"]), skip_special_tokens=True)
    ['a cat ', 'a dog ']
    """
    return _clips().batch_decode(output_ids, skip_special_tokens, stop_at_eos)


def canonicalize_text(
    text: str,
    *,
    keep_punctuation_exact_string: str | None = None,
    trans_punctuation: Mapping[int, Any] = _NO_PUNCTUATION,
) -> str:
    """A text in lower case, without punctuation and doubled white space, as SigLIP's are prepared
    (https://github.com/google-research/big_vision, prompt_engineering.py).

    `keep_punctuation_exact_string` is kept wherever it stands as it is; `trans_punctuation` is a
    table of `str.translate`.

    >>> from diptych.compat import canonicalize_text
    >>> canonicalize_text("A photo_of {}, isn't it?", keep_punctuation_exact_string="{}")
    'a photo of {} isnt it'
    """
    text, kept = text.replace("_", " "), keep_punctuation_exact_string
    parts = text.split(kept) if kept else [text]
    text = (kept or "").join(part.translate(trans_punctuation) for part in parts)
    return " ".join(text.lower().split())


def __getattr__(name: str) -> Any:
    """`_tokenizer`, which scripts read; it is made when it is asked for."""
    if name == "_tokenizer":
        return _clips()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
