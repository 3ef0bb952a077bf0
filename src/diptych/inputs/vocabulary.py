"""The byte-pair vocabulary of CLIP: read from an installed package, checked, kept once per process.

A text's UTF-8 bytes are written as 256 printable characters (the GPT-2 alphabet), each with an id,
and once more with the mark of a word's end. Merge number r joins two symbols to the symbol with id
512 + r. Two special tokens end the list: 49,408 in all (Radford et al. 2019 and 2021,
arXiv:2103.00020 §2.4).
"""

import gzip
import hashlib
import heapq
import json
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import count
from pathlib import Path

from diptych.errors import ConfigError

PACKAGE = "clip-anytorch"
FILE = "clip/bpe_simple_vocab_16e6.txt.gz"
SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
MERGES = 49152 - 256 - 2
WORD_END = "</w>"


def alphabet() -> dict[int, str]:
    """byte -> printable character, in the order of the ids: bytes that print as themselves first,
    then the others."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + n) for n, byte in enumerate(others)
    }


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The merges and the ids of all symbols."""

    ranks: dict[str, int]
    """"left right" -> rank of that merge; lower ranks merge first."""
    ids: dict[str, int]
    """symbol -> id, special tokens included."""
    symbols: tuple[str, ...]
    """id -> symbol."""
    byte_to_char: dict[int, str]
    char_to_byte: dict[str, int]

    def encode_word(self, word: str) -> tuple[int, ...]:
        """The ids of one word, merged in order of rank.

        The textbook loop merges, again and again, all occurrences of the pair with the lowest rank.
        Every symbol is made by exactly one merge, so a pair that a merge creates has a higher rank
        than the merge: taking pairs from a heap by (rank, position) gives the same symbols in n log
        n.

        >>> from diptych.inputs.vocabulary import read_vocabulary
        >>> vocabulary = read_vocabulary()
        >>> [vocabulary.symbols[i] for i in vocabulary.encode_word("diptych")]
        ['dip', 'ty', 'ch</w>']
        """
        symbols = [self.byte_to_char[byte] for byte in word.encode()]
        symbols[-1] += WORD_END
        # A pair with "" is in no table: it ends the list, and marks what was merged away.
        symbols.append("")
        size = len(symbols)
        after, before = list(range(1, size + 1)), list(range(-1, size - 1))
        rank_of = self.ranks.get
        queue = [(rank_of(f"{symbols[i]} {symbols[i + 1]}", MERGES), i) for i in range(size - 1)]
        heapq.heapify(queue)
        while queue:
            rank, left = heapq.heappop(queue)
            if rank == MERGES:
                break
            right = after[left]
            if rank_of(f"{symbols[left]} {symbols[right]}") != rank:
                continue  # one of the two was merged with another neighbour since
            symbols[left] += symbols[right]
            symbols[right] = ""
            after[left] = after[right]
            before[after[left]] = left
            for first in (before[left], left):
                if (
                    first >= 0
                    and (new := rank_of(f"{symbols[first]} {symbols[after[first]]}")) is not None
                ):
                    heapq.heappush(queue, (new, first))
        return tuple(self.ids[symbol] for symbol in symbols if symbol)

    def decode(self, ids: list[int]) -> str:
        """The text of ordinary symbols; words are followed by a space."""
        text = bytearray()
        for symbol in map(self.symbols.__getitem__, ids):
            text += bytes(self.char_to_byte[char] for char in symbol.removesuffix(WORD_END))
            text += b" " * symbol.endswith(WORD_END)
        return text.decode(errors="replace")


def path_of_merges() -> Path:
    """The file of the merges. Raises ConfigError where its package is absent."""
    try:
        return Path(str(metadata.distribution(PACKAGE).locate_file(FILE)))
    except metadata.PackageNotFoundError as error:
        raise _absent() from error


def _absent() -> ConfigError:
    return ConfigError(
        f"CLIP's vocabulary comes with the package {PACKAGE}, which is not here: {_fix()}"
    )


def _fix() -> str:
    return f"run `pip install --force-reinstall {PACKAGE}`"


def _read_merges() -> list[str]:
    """The merges as "left right" lines, in order of rank. Raises ConfigError when the file is
    absent or not the one."""
    path = path_of_merges()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _absent() from error
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ConfigError(f"{path} is not CLIP's vocabulary (its sha256 differs): {_fix()}")
    return gzip.decompress(data).decode().split("\n")[1 : MERGES + 1]


@cache
def read_vocabulary() -> Vocabulary:
    """CLIP's vocabulary, read at the first call.

    Raises ConfigError when the package that ships it is absent or changed.

    >>> from diptych.inputs.vocabulary import read_vocabulary
    >>> len(read_vocabulary().symbols)
    49408
    """
    merges = _read_merges()
    byte_to_char = alphabet()
    single = list(byte_to_char.values())
    joined = [merge.replace(" ", "") for merge in merges]
    symbols = (
        *single,
        *(char + WORD_END for char in single),
        *joined,
        "<start_of_text>",
        "<end_of_text>",
    )
    ids = dict(zip(symbols, count()))
    assert len(ids) == len(symbols), "every symbol is made by one merge"
    return Vocabulary(
        ranks=dict(zip(merges, count())),
        ids=ids,
        symbols=symbols,
        byte_to_char=byte_to_char,
        char_to_byte={char: byte for byte, char in byte_to_char.items()},
    )


def write_transformers_files(folder: str | Path, context_length: int = 77) -> None:
    """Write the files from which `transformers.CLIPTokenizer.from_pretrained(folder)` reads the
    same vocabulary.

    Its ids equal ours on plain text; it does not undo HTML entities, curly quotes or broken
    encodings as CLIP does.
    """
    folder = Path(folder)
    vocabulary = read_vocabulary()
    start, end = "<|startoftext|>", "<|endoftext|>"
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    ids = {symbol: number for number, symbol in enumerate((*vocabulary.symbols[:-2], start, end))}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": context_length,
        "do_lower_case": True,
        **special,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *vocabulary.ranks, ""]), encoding="utf-8"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")
