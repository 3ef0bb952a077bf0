"""Tokenizers of OpenAI's tiktoken behind our interface: three ids of their own behind the
vocabulary's, and two files beside a model.

https://github.com/openai/tiktoken; the ids and files are those of open_clip's main branch
(https://github.com/mlfoundations/open_clip, src/open_clip/tokenizer.py).
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
from diptych.config.model import Cleaning
from diptych.config.serialize import read_as
from diptych.errors import AssumptionWarning, ConfigError, first_line
from diptych.inputs.cleaning import cleaned
from diptych.inputs.tokenizer import Tokenizer, bounded, check_text

FOLDER = "open_clip_tiktoken"
"""Of the two files, beside a model."""
_MOST = 1 << 26
"""Bytes of a vocabulary: the largest published one, o200k_base, has 3.6 million."""


class TiktokenEncoding(Tokenizer):
    """A tokenizer of tiktoken's: `encoding` is what `fetched` or `read_encoding` gives. `first`,
    `last`: whether a text begins with the id of the start, and ends with that of the end."""

    def __init__(
        self,
        encoding: Any,
        context_length: int,
        clean: Cleaning = "none",
        *,
        first: bool = True,
        last: bool = True,
    ):
        end, pad, start = self.own = tuple(range(encoding.n_vocab, encoding.n_vocab + 3))
        self.encoding, self.context_length = encoding, context_length
        self._cleaning: Cleaning = clean
        self._first, self._last = ([start] if first else []), ([end] if last else [])
        self.vocab_size, self.pad_id = encoding.n_vocab + 3, pad
        native = map(encoding.encode_single_token, encoding.special_tokens_set)
        self.special_ids = frozenset((*self.own, *native))

    def body(self, text: str) -> list[int]:
        """Of the text alone. Special words in it are words."""
        return self.encoding.encode_ordinary(cleaned(check_text(text), self._cleaning))

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
        return self.encoding.decode(kept)

    def save(self, folder: str | Path) -> None:
        """Write the vocabulary's two files into `folder`."""
        self.save_files(folder)

    def save_files(self, folder: str | Path) -> tuple[str, str]:
        """The same; gives their paths within `folder`."""
        place, stem = Path(folder, FOLDER), _stem(self.encoding.name)
        place.mkdir(parents=True, exist_ok=True)
        ranks: Mapping[bytes, int] = self.encoding._mergeable_ranks
        special: Mapping[str, int] = self.encoding._special_tokens
        lines = [
            base64.b64encode(symbol) + f" {rank}\n".encode()
            for symbol, rank in sorted(ranks.items(), key=lambda pair: pair[1])
        ]
        (place / f"{stem}.tiktoken").write_bytes(b"".join(lines))
        said = {
            "name": self.encoding.name,
            "pat_str": self.encoding._pat_str,
            "special_tokens": special,
        }
        if len(ranks) + len(special) == self.encoding.n_vocab:  # else there are gaps
            said["explicit_n_vocab"] = self.encoding.n_vocab
        (place / f"{stem}.json").write_text(json.dumps(said, indent=2))
        return f"{FOLDER}/{stem}.tiktoken", f"{FOLDER}/{stem}.json"


def encoding_of(name: str, folder: str | Path | None = None) -> Any:
    """tiktoken's encoding of this name: of its files in `folder` where they are there, else as
    tiktoken has it, which fetches it. Raises ConfigError where there is none."""
    path = None if folder is None else Path(folder, FOLDER, f"{_stem(name)}.tiktoken")
    if path is None or not path.is_file():
        return fetched(name)
    return read_encoding(name, path, path.with_suffix(".json"))


def _stem(name: str) -> str:
    return name.replace("/", "_")


def _library() -> Any:
    try:
        import tiktoken
    except ImportError as error:
        raise ConfigError("this tokenizer needs tiktoken: `pip install tiktoken`") from error
    return tiktoken


def fetched(name: str) -> Any:
    """tiktoken's encoding of this name. Raises ConfigError without tiktoken, and where it has
    none."""
    try:
        return _library().get_encoding(name)
    except (ValueError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"tiktoken has no encoding {name!r} here: {first_line(error)}; it fetches those that "
            "it knows, and keeps them where TIKTOKEN_CACHE_DIR says"
        ) from error


def read_encoding(name: str, path: Path, config_path: str | Path | None) -> Any:
    """Of the two files that `save_files` wrote. Raises ConfigError for what they aren't."""
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
