"""Tokenizers of OpenAI's tiktoken with open_clip's face: three ids of its own behind the
vocabulary's, and two files beside a model.

https://github.com/mlfoundations/open_clip, src/open_clip/tokenizer.py, of its main branch;
https://github.com/openai/tiktoken
"""

import base64
import binascii
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from diptych.bounded import parse_json, read_whole
from diptych.compat.tokenizers.base import OpenClipTokenizer
from diptych.config.serialize import read_as
from diptych.errors import AssumptionWarning, ConfigError, first_line
from diptych.inputs import Tokenizer
from diptych.inputs.tokenizer import bounded, check_text

_FOLDER = "open_clip_tiktoken"
_MOST = 1 << 26
"""Bytes of a vocabulary: the largest published one, o200k_base, has 3.6 million."""
_WORDS = ("<|eos|>", "<|pad|>", "<|bos|>")
"""Behind the vocabulary, in this order."""


class TikTokenTokenizer(OpenClipTokenizer):
    """A tokenizer of tiktoken's: an encoding's name, which tiktoken fetches, or the files that
    `save_pretrained` wrote, `bpe_path` and `encoding_config_path`.

    `add_bos`, `add_eos`: whether a text begins with `<|bos|>` and ends with `<|eos|>`. Texts are
    taken as they are. Raises ConfigError without tiktoken, for a name that it doesn't know, and for
    files that can't be read.
    """

    def __init__(
        self,
        encoding_name: str = "cl100k_base",
        context_length: int | None = 256,
        add_bos: bool = True,
        add_eos: bool = True,
        bpe_path: str | Path | None = None,
        encoding_config_path: str | Path | None = None,
    ):
        if bpe_path is None:
            self.enc = _fetched(encoding_name)
        else:
            self.enc = _read(encoding_name, Path(bpe_path), encoding_config_path)
        self.encoding_name: str = self.enc.name
        self.add_bos, self.add_eos = add_bos, add_eos
        tokenizer = _Encoding(self.enc, context_length or 256, add_bos, add_eos)
        self.eot_token_id, self.pad_token_id, self.sot_token_id = tokenizer.own
        super().__init__(tokenizer)

    @property
    def all_special_ids(self) -> list[int]:
        """The three behind the vocabulary, and the vocabulary's own."""
        own = (self.eot_token_id, self.pad_token_id, self.sot_token_id)
        native = self.of_length(self.context_length).special_ids.difference(own)
        return [*(number for number in own if number is not None), *sorted(native)]

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The ids of the whole text; `add_special_tokens`: with start and end."""
        tokenizer = self.of_length(self.context_length)
        assert isinstance(tokenizer, _Encoding)
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
        folder, stem = Path(dest, _FOLDER), self.encoding_name.replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        ranks: Mapping[bytes, int] = self.enc._mergeable_ranks
        special: Mapping[str, int] = self.enc._special_tokens
        lines = [
            base64.b64encode(symbol) + f" {rank}\n".encode()
            for symbol, rank in sorted(ranks.items(), key=lambda pair: pair[1])
        ]
        (folder / f"{stem}.tiktoken").write_bytes(b"".join(lines))
        said = {"name": self.encoding_name, "pat_str": self.enc._pat_str, "special_tokens": special}
        if len(ranks) + len(special) == self.enc.n_vocab:  # else there are gaps
            said["explicit_n_vocab"] = self.enc.n_vocab
        (folder / f"{stem}.json").write_text(json.dumps(said, indent=2))
        return {
            "tiktoken_bpe_path": f"{_FOLDER}/{stem}.tiktoken",
            "tiktoken_config_path": f"{_FOLDER}/{stem}.json",
        }


class _Encoding(Tokenizer):
    """tiktoken's behind Diptych's interface."""

    def __init__(self, encoding: Any, context_length: int, first: bool, last: bool):
        end, pad, start = self.own = tuple(range(encoding.n_vocab, encoding.n_vocab + 3))
        self._encoding, self.context_length = encoding, context_length
        self._first, self._last = ([start] if first else []), ([end] if last else [])
        self.vocab_size, self.pad_id = encoding.n_vocab + 3, pad
        native = map(encoding.encode_single_token, encoding.special_tokens_set)
        self.special_ids = frozenset((*self.own, *native))

    def body(self, text: str) -> list[int]:
        """Of the text alone. Special words in it are words."""
        return self._encoding.encode_ordinary(check_text(text))

    def ended(self, text: str) -> list[int]:
        """Between start and end."""
        return [*self._first, *self.body(text), *self._last]

    def encode(self, text: str) -> list[int]:
        ids = self.ended(bounded(check_text(text), self.context_length))
        if len(ids) > self.context_length:
            ids = [*ids[: self.context_length - len(self._last)], *self._last]
        return ids

    def length(self, text: str) -> int:
        return len(self.ended(text))

    def decode(self, ids: Sequence[int] | Int[Tensor, " length"]) -> str:
        kept = [int(number) for number in ids if int(number) not in self.special_ids]
        return self._encoding.decode(kept)

    def save(self, folder: str | Path) -> None:
        raise ConfigError("Diptych's model folders have no place for a vocabulary of tiktoken's")


def _library() -> Any:
    try:
        import tiktoken
    except ImportError as error:
        raise ConfigError("this tokenizer needs tiktoken: `pip install tiktoken`") from error
    return tiktoken


def _fetched(name: str) -> Any:
    try:
        return _library().get_encoding(name)
    except (ValueError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"tiktoken has no encoding {name!r} here: {first_line(error)}; it fetches those that "
            "it knows, and keeps them where TIKTOKEN_CACHE_DIR says"
        ) from error


def _read(name: str, path: Path, config_path: str | Path | None) -> Any:
    """Of the two files that `save_pretrained` wrote."""
    if config_path is None:
        raise ConfigError(f"bpe_path={path} needs encoding_config_path, the .json beside it")
    where = str(config_path)
    try:
        said = read_as(dict[str, Any], parse_json(read_whole(where, _MOST)), where)
        lines = read_whole(path, _MOST).splitlines()
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{where} and {path} aren't the files of a tiktoken encoding: {first_line(error)}"
        ) from error
    ranks, size = _ranks(path, lines), said.get("explicit_n_vocab")
    special = read_as(dict[str, int], said.get("special_tokens", {}), where)
    highest = max((*ranks.values(), *special.values()), default=-1)
    if size is not None and not len(ranks) + len(special) == highest + 1 == size:
        warnings.warn(
            f"{where} says explicit_n_vocab={size}, and {path} has {len(ranks)} symbols up to "
            f"id {highest}: it is read without; a file of an older open_clip says so of a "
            "vocabulary with gaps, or the file isn't whole",
            AssumptionWarning,
            stacklevel=3,
        )
        size = None
    library = _library()
    try:
        return library.Encoding(
            str(said.get("name", name)),
            pat_str=said["pat_str"],
            mergeable_ranks=ranks,
            special_tokens=special,
            explicit_n_vocab=size,
        )
    except Exception as error:  # whatever its two languages raise for what doesn't fit
        raise ConfigError(f"{where} doesn't describe a tiktoken encoding: {error!r}") from error


def _ranks(path: Path, lines: Sequence[bytes]) -> dict[bytes, int]:
    found = dict[bytes, int]()
    for number, line in enumerate(lines, 1):
        try:
            symbol, rank = line.split()
            found[base64.b64decode(symbol, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise ConfigError(
                f"{path}, line {number} isn't a symbol in base64 and its rank: {error}"
            ) from error
    return found
