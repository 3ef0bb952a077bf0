"""Tokenizers of OpenAI's tiktoken with open_clip's face: three ids of its own behind the
vocabulary's, and two files beside a model.

https://github.com/mlfoundations/open_clip, src/open_clip/tokenizer.py, of its main branch;
https://github.com/openai/tiktoken
"""

from pathlib import Path

from diptych.compat.tokenizers.base import OpenClipTokenizer
from diptych.compat.tokenizers.huggingface import CLEANING
from diptych.errors import UnknownNameError
from diptych.inputs.tiktoken_tokenizer import TiktokenEncoding, fetched, read_encoding

_WORDS = ("<|eos|>", "<|pad|>", "<|bos|>")
"""Behind the vocabulary, in this order."""


class TikTokenTokenizer(OpenClipTokenizer):
    """A tokenizer of tiktoken's: an encoding's name, which tiktoken fetches, or the files that
    `save_pretrained` wrote, `bpe_path` and `encoding_config_path`.

    `add_bos`, `add_eos`: whether a text begins with `<|bos|>` and ends with `<|eos|>`. `clean`:
    `whitespace`, `lower`, `canonicalize` or `none`. Raises ConfigError without tiktoken, for a name
    that it doesn't know, and for files that can't be read.
    """

    def __init__(
        self,
        encoding_name: str = "cl100k_base",
        context_length: int | None = 256,
        add_bos: bool = True,
        add_eos: bool = True,
        bpe_path: str | Path | None = None,
        encoding_config_path: str | Path | None = None,
        clean: str = "none",
    ):
        if clean not in CLEANING:
            raise UnknownNameError("cleaning of texts", clean, CLEANING)
        self.enc = (
            fetched(encoding_name)
            if bpe_path is None
            else read_encoding(encoding_name, Path(bpe_path), encoding_config_path)
        )
        given = (context_length or 256, CLEANING[clean])
        self._take(TiktokenEncoding(self.enc, *given, first=add_bos, last=add_eos))

    @classmethod
    def of(cls, tokenizer: TiktokenEncoding) -> "TikTokenTokenizer":
        """Around Diptych's."""
        made = cls.__new__(cls)
        made.enc = tokenizer.encoding
        made._take(tokenizer)
        return made

    def _take(self, tokenizer: TiktokenEncoding) -> None:
        self.encoding_name: str = self.enc.name
        self.eot_token_id, self.pad_token_id, self.sot_token_id = tokenizer.own
        OpenClipTokenizer.__init__(self, tokenizer)

    @property
    def all_special_ids(self) -> list[int]:
        """The three behind the vocabulary, and the vocabulary's own."""
        own = (self.eot_token_id, self.pad_token_id, self.sot_token_id)
        native = self.of_length(self.context_length).special_ids.difference(own)
        return [*(number for number in own if number is not None), *sorted(native)]

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The ids of the whole text; `add_special_tokens`: with start and end."""
        tokenizer = self.of_length(self.context_length)
        assert isinstance(tokenizer, TiktokenEncoding)
        return tokenizer.ended(text) if add_special_tokens else tokenizer.body(text)

    def _text(self, ids: list[int], skip_special_tokens: bool) -> str:
        special = frozenset(self.all_special_ids)
        if skip_special_tokens:
            ids = [number for number in ids if number not in special]
        parts, numbers = list[str](), list[int]()
        for number in ids:
            if number < self.enc.n_vocab:
                numbers.append(number)
                continue
            parts += (self._words(numbers), self._own_word(number))
            numbers = []
        return "".join((*parts, self._words(numbers)))

    def _own_word(self, number: int) -> str:
        """Of an id behind the vocabulary; one that nobody has is left out."""
        place = number - self.enc.n_vocab
        return _WORDS[place] if place < len(_WORDS) else ""

    def _words(self, numbers: list[int]) -> str:
        """Of the vocabulary's ids. Some vocabularies have gaps: these are left out."""
        known = bytearray()
        for number in numbers:
            try:
                known += self.enc.decode_single_token_bytes(number)
            except KeyError:
                continue
        return known.decode(errors="replace")

    def save_pretrained(self, dest: str | Path) -> dict[str, str]:
        """Write the vocabulary into a folder; gives the fields of a `text_cfg` that name its two
        files."""
        tokenizer = self.of_length(self.context_length)
        assert isinstance(tokenizer, TiktokenEncoding)
        names = tokenizer.save_files(dest)
        return dict(zip(("tiktoken_bpe_path", "tiktoken_config_path"), names, strict=True))
