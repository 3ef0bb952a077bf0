"""CLIP's byte-pair tokenizer with open_clip's face."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from diptych.compat.tokenizers.base import DEFAULT_CONTEXT_LENGTH, OpenClipTokenizer
from diptych.compat.tokenizers.byte_pairs import get_clean_fn
from diptych.compat.tokenizers.huggingface import CLEANING
from diptych.compat.tokenizers.reduction import get_reduction_mask_fn
from diptych.config.model import Cleaning
from diptych.errors import ConfigError
from diptych.inputs import ClipTokenizer, write_transformers_files
from diptych.inputs.cleaning import cleaned
from diptych.inputs.clip_tokenizer import word_pattern
from diptych.inputs.tokenizer import bounded, check_text
from diptych.inputs.vocabulary import SHA256, WORD_END, read_vocabulary


class SimpleTokenizer(OpenClipTokenizer):
    """CLIP's byte-pair tokenizer.

    `additional_special_tokens` have the ids behind the vocabulary. `bpe_path` may only be CLIP's
    own vocabulary. `clean`: what becomes of a text before, see `get_clean_fn`. `reduction_mask`:
    what becomes of longer texts, see `get_reduction_mask_fn`. Raises ConfigError for another
    vocabulary, and UnknownNameError for another word of the last two.

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
        self.clean_fn = get_clean_fn(clean)
        self.reduction_fn = get_reduction_mask_fn(reduction_mask) if reduction_mask else None
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
        self.cache = {word: word for word in special}
        self.pat = word_pattern(special)
        length = context_length or DEFAULT_CONTEXT_LENGTH
        super().__init__(_WithWords(length, ids, CLEANING[clean]))

    def __call__(
        self,
        texts: str | Sequence[str],
        context_length: int | None = None,
        pad: bool = True,
        output_mask: bool = False,
        add_special_tokens: bool = True,
    ) -> Any:
        """[texts, context_length] ids of one or several texts, as `OpenClipTokenizer`'s; it has no
        `pad=False`."""
        if self.reduction_fn is None or not pad:
            return super().__call__(texts, context_length, pad, output_mask, add_special_tokens)
        texts = [texts] if isinstance(texts, str) else texts
        length = self.of_length(context_length or self.context_length).context_length
        return self.reduction_fn(
            texts,
            length,
            self.sot_token_id,
            self.eot_token_id,
            self.encode,
            add_special_tokens=add_special_tokens,
            output_mask=output_mask,
        )

    def _rows(self, texts: list[str], length: int, add_special_tokens: bool) -> list[list[int]]:
        if not (self._is_replaced("encode") or self._is_replaced("bpe")):
            return super()._rows(texts, length, add_special_tokens)
        rows = [self.encode(text) for text in texts]
        if not add_special_tokens:
            return [row[:length] for row in rows]
        room = self.of_length(length).context_length - 2
        return [self._between(row[:room]) for row in rows]

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """As `OpenClipTokenizer`'s; a subclass's `bpe` counts."""
        if not self._is_replaced("bpe"):
            return super().encode(text, add_special_tokens)
        words = self.pat.findall(self.clean_fn(text))
        letters = ("".join(self.byte_encoder[byte] for byte in word.encode()) for word in words)
        ids = [self.encoder[symbol] for word in letters for symbol in self.bpe(word).split(" ")]
        return self._between(ids) if add_special_tokens else ids

    def _between(self, ids: list[int]) -> list[int]:
        start, end = (self.encoder[word] for word in self.words)
        return [start, *ids, end]

    def _is_replaced(self, method: str) -> bool:
        """Whether a subclass, or a program for this one tokenizer, has another."""
        own = getattr(getattr(self, method), "__func__", None)
        return own is not getattr(SimpleTokenizer, method)

    def _text(self, ids: list[int], skip_special_tokens: bool) -> str:
        """Each id counts: 0, the padding, is an exclamation mark."""
        if skip_special_tokens:
            special = frozenset(self.all_special_ids)
            ids = [number for number in ids if number not in special]
        symbols = "".join(self.decoder[number] for number in ids)
        text = bytes(self.byte_decoder[letter] for letter in symbols)
        return text.decode("utf-8", errors="replace").replace(WORD_END, " ")

    def save_pretrained(self, dest: str | Path) -> None:
        """Write the files from which transformers reads the same vocabulary into a folder. Raises
        ConfigError for a tokenizer with words of one's own, for which they have no place."""
        if len(self.encoder) != len(read_vocabulary().symbols):
            raise ConfigError(
                "additional_special_tokens have no place in a CLIP tokenizer's files; leave them "
                "out to save it"
            )
        write_transformers_files(dest, self.context_length)

    def bpe(self, token: str) -> str:
        """The symbols of a word that is written in the vocabulary's letters, between spaces."""
        if token in self.cache:
            return self.cache[token]
        word = bytes(self.byte_decoder[letter] for letter in token).decode("utf-8", "replace")
        return " ".join(self.decoder[number] for number in read_vocabulary().encode_word(word))


class _WithWords(ClipTokenizer):
    """With these special tokens, and this cleaning. They are looked for in the cleaned text."""

    def __init__(self, context_length: int, special: dict[str, int], how: Cleaning):
        self._ids = special
        self._how: Cleaning = how
        lower = how in ("lower", "canonical")
        self.special = MappingProxyType(
            {word.lower() if lower else word: number for word, number in special.items()}
        )
        self.special_ids = frozenset(special.values())
        self.vocab_size = max(special.values()) + 1
        super().__init__(context_length)

    def __reduce__(self):
        return type(self), (self.context_length, self._ids, self._how)

    def _split(self, text: str) -> list[str]:
        if self._how == "lower":
            return super()._split(text)  # which is faster
        return cleaned(bounded(check_text(text), self.context_length), self._how).split()
