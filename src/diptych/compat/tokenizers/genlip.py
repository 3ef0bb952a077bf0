"""Captions as GenLIP's authors give them to Qwen's tokenizer: no start, and a turn's end behind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from diptych.config.model import Cleaning
from diptych.errors import ConfigError, first_line
from diptych.inputs.cleaning import cleaned
from diptych.inputs.strangers import check_paths
from diptych.inputs.tokenizer import Tokenizer, bounded, check_text

GENLIP = "genlip"
"""open_clip's word for it."""
_END = "<|im_end|>\n"


class TurnTokenizer(Tokenizer):
    """The words of a caption, and the ids of a turn's end; what is too long loses words. `pad`: the
    token that fills up shorter ones (None: the tokenizer's own). Raises ConfigError where
    transformers finds no such tokenizer, or one that doesn't pad."""

    blank: int | None = None

    def __init__(
        self,
        name: str,
        context_length: int,
        clean: Cleaning,
        pad: str | None,
        cache_dir: str | Path | None,
    ):
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise ConfigError(
                "Hugging Face tokenizers need transformers: `pip install diptych[bridges]`"
            ) from error
        check_paths(Path(name))
        said = {} if pad is None else {"pad_token": pad}
        try:
            self.library: Any = AutoTokenizer.from_pretrained(
                name, trust_remote_code=False, cache_dir=cache_dir, **said
            )
        except Exception as error:  # whatever its classes raise for files that aren't theirs
            raise ConfigError(
                f"transformers finds no tokenizer at {name!r}: {first_line(error)}"
            ) from error
        if self.library.pad_token_id is None:
            raise ConfigError(f"the tokenizer {name!r} has no padding token; say pad_token=")
        self.context_length = context_length
        self.cleaning: Cleaning = clean
        self.pad_id: int = self.library.pad_token_id
        self.vocab_size = len(self.library)
        self.end: list[int] = list(self.library.encode(_END, add_special_tokens=False))
        self.special_ids = frozenset({self.pad_id, *self.end[:1]})

    def body(self, text: str) -> list[int]:
        """The ids of the words, however many."""
        return list(self.library([self.clean(text)], add_special_tokens=False)["input_ids"][0])

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return self.body(text)[: self.context_length - len(self.end)] + self.end

    def length(self, text: str) -> int:
        """See `Tokenizer`."""
        return len(self.body(text)) + len(self.end)

    def decode(self, ids: Sequence[int] | Int[Tensor, " length"]) -> str:
        """See `Tokenizer`."""
        return self.library.decode([int(number) for number in ids], skip_special_tokens=True)

    def save(self, folder: str | Path) -> None:
        """See `Tokenizer`."""
        self.library.save_pretrained(str(folder))

    def clean(self, text: str) -> str:
        """What of a text is left before ids are made."""
        return cleaned(bounded(check_text(text), self.context_length), self.cleaning)
