"""Tokenizers as open_clip's and clip's callers know them: always padded to the context."""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from jaxtyping import Int
from torch import Tensor

from diptych import pretrained as published
from diptych.checkpoints.content import read
from diptych.checkpoints.describe import read_config
from diptych.compat import places
from diptych.compat.options import refuse
from diptych.compat.pretrained import configured
from diptych.config import ClipConfig, TokenizerConfig
from diptych.errors import ConfigError, UnknownNameError
from diptych.inputs import ClipTokenizer, HuggingFaceTokenizer, Tokenizer, build_tokenizer
from diptych.inputs.truncation import find_truncated, warn_if_truncated
from diptych.inputs.vocabulary import SHA256, WORD_END, read_vocabulary

DEFAULT_CONTEXT_LENGTH = 77
_NO_CONTEXT = 1 << 16
"""Ids that no text has: for what is encoded whole."""
_CLEANING: dict[str, Literal["spaces", "lower", "canonical"]] = {
    "whitespace": "spaces",
    "lower": "lower",
    "canonicalize": "canonical",
}


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

    def decode(self, tokens: Sequence[int] | Int[Tensor, " length"]) -> str:
        """The text of one row of ids, without padding."""
        return self.of_length(self.context_length).decode(tokens)


class SimpleTokenizer(OpenClipTokenizer):
    """CLIP's byte-pair tokenizer.

    `additional_special_tokens` have the ids behind the vocabulary. `bpe_path` may only be CLIP's
    own vocabulary. Raises ConfigError for another one, for cleaning other than `lower`, and for a
    `reduction_mask`.

    >>> from diptych.compat import SimpleTokenizer
    >>> tokenizer = SimpleTokenizer()
    >>> tokenizer.encode("a cat"), tokenizer.decode([320, 2368])
    ([320, 2368], 'a cat ')
    >>> tokenizer.sot_token_id, tokenizer.encoder["cat</w>"]
    (49406, 2368)
    """

    words: ClassVar[tuple[str, str]] = ("<start_of_text>", "<end_of_text>")
    """Of the start and the end of a text, in a text and in `encoder`."""

    def __init__(
        self,
        bpe_path: str | Path | None = None,
        additional_special_tokens: Sequence[str] | None = None,
        context_length: int | None = DEFAULT_CONTEXT_LENGTH,
        clean: str = "lower",
        reduction_mask: str = "",
    ):
        refuse({"reduction_mask": reduction_mask, "clean": clean if clean != "lower" else ""})
        if bpe_path and hashlib.sha256(Path(bpe_path).read_bytes()).hexdigest() != SHA256:
            raise ConfigError(f"bpe_path={bpe_path} isn't CLIP's vocabulary; leave it out")
        vocabulary = read_vocabulary()
        special = (*self.words, *(additional_special_tokens or ()))
        symbols = (*vocabulary.symbols[:-2], *special)
        self.encoder = {symbol: number for number, symbol in enumerate(symbols)}
        self.decoder = dict(enumerate(symbols))
        self.byte_encoder, self.byte_decoder = vocabulary.byte_to_char, vocabulary.char_to_byte
        self.bpe_ranks = {tuple(pair.split(" ")): rank for pair, rank in vocabulary.ranks.items()}
        self.sot_token_id, self.eot_token_id = (self.encoder[word] for word in self.words)
        ids = {word: self.encoder[word] for word in special}
        super().__init__(_WithWords(context_length or DEFAULT_CONTEXT_LENGTH, ids))

    def encode(self, text: str) -> list[int]:
        """The ids of the whole text, however long, without start and end."""
        return super().encode(text)[1:-1]

    def decode(self, tokens: Sequence[int] | Int[Tensor, " length"]) -> str:
        """The text of ids, each of which counts: 0, the padding, is an exclamation mark."""
        symbols = "".join(self.decoder[int(number)] for number in tokens)
        text = bytes(self.byte_decoder[letter] for letter in symbols)
        return text.decode("utf-8", errors="replace").replace(WORD_END, " ")

    def bpe(self, token: str) -> str:
        """The symbols of a word that is written in the vocabulary's letters, between spaces."""
        if token in self.words:
            return token
        word = bytes(self.byte_decoder[letter] for letter in token).decode("utf-8", "replace")
        return " ".join(self.decoder[number] for number in read_vocabulary().encode_word(word))


class _WithWords(ClipTokenizer):
    """With these special tokens. A text is in lower case when they are looked for."""

    def __init__(self, context_length: int, special: dict[str, int]):
        self._ids = special
        self.special = MappingProxyType({word.lower(): number for word, number in special.items()})
        self.special_ids = frozenset(special.values())
        self.vocab_size = max(special.values()) + 1
        super().__init__(context_length)

    def __reduce__(self):
        return type(self), (self.context_length, self._ids)


class HFTokenizer(OpenClipTokenizer):
    """A tokenizer of transformers: a folder's or `org/name`'s. `clean`: `whitespace`, `lower` or
    `canonicalize`; `strip_sep_token`: the separator becomes 0; `language`: the source language of
    tokenizers that have several. Raises ConfigError where there is none such, and for a
    `tokenizer_mode`.
    """

    def __init__(
        self,
        tokenizer_name: str | Path,
        context_length: int | None = DEFAULT_CONTEXT_LENGTH,
        clean: str = "whitespace",
        strip_sep_token: bool = False,
        language: str | None = None,
        cache_dir: str | Path | None = None,
        tokenizer_mode: str | None = None,
        **options: Any,
    ):
        refuse(options | {"tokenizer_mode": tokenizer_mode})
        if clean not in _CLEANING:
            raise UnknownNameError("cleaning of texts", clean, _CLEANING)
        tokenizer = HuggingFaceTokenizer(
            str(tokenizer_name),
            context_length or DEFAULT_CONTEXT_LENGTH,
            clean=_CLEANING[clean],
            blank_separator=strip_sep_token,
            cache_dir=cache_dir,
        )
        self._take(tokenizer, language)

    @classmethod
    def of(cls, tokenizer: HuggingFaceTokenizer, language: str | None = None) -> "HFTokenizer":
        """Around Diptych's."""
        made = cls.__new__(cls)
        made._take(tokenizer, language)
        return made

    def _take(self, tokenizer: HuggingFaceTokenizer, language: str | None) -> None:
        super().__init__(tokenizer)
        self.tokenizer = tokenizer.library
        """transformers' own."""
        if language:
            self.set_language(language)

    def set_language(self, src_lang: str) -> None:
        """Texts are of this language from now on. Raises ConfigError for a tokenizer that has but
        one."""
        try:
            self.tokenizer.set_src_lang_special_tokens(src_lang)
        except (AttributeError, KeyError) as error:
            raise ConfigError(f"the tokenizer has no language {src_lang!r}") from error

    def save_pretrained(self, dest: str | Path) -> None:
        """Write its files into a folder."""
        self.tokenizer.save_pretrained(str(dest))


def get_tokenizer(
    model_name: str | Path = "",
    context_length: int | None = None,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> OpenClipTokenizer:
    """The tokenizer of a model: of a name in any spelling, a published JSON file, or a place of
    weights (`hf-hub:org/name`, `local-dir:FOLDER`, a folder, a file). Without a name, CLIP's.

    `options` are those of `SimpleTokenizer`, or of `HFTokenizer` where it is one of transformers'.
    Raises UnknownNameError for a name that nothing has, and ConfigError for an option that can't be
    honoured.

    >>> from diptych.compat import get_tokenizer
    >>> get_tokenizer("EVA02-CLIP-B-16")(["a diagram", "a dog"]).shape
    torch.Size([2, 77])
    """
    name, folder = str(configured(model_name)), None
    if places.is_place(name):
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
        return _of_transformers(said, length, folder, options)
    refuse(options)
    return OpenClipTokenizer(build_tokenizer(said, length, folder))


def _of_transformers(
    config: TokenizerConfig, length: int, folder: Path | None, options: dict[str, Any]
) -> HFTokenizer:
    options = dict(options)
    clean, language = options.pop("clean", None), options.pop("language", None)
    blank = options.pop("strip_sep_token", config.blank_separator)
    refuse(options)
    if clean is not None and clean not in _CLEANING:
        raise UnknownNameError("cleaning of texts", clean, _CLEANING)
    config = replace(
        config, blank_separator=blank, clean=_CLEANING[clean] if clean else config.clean
    )
    tokenizer = build_tokenizer(config, length, folder)
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
