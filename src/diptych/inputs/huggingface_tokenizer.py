"""Any tokenizer of the `transformers` library behind our interface."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from diptych.config.model import Cleaning
from diptych.errors import ConfigError, DiptychError, first_line
from diptych.inputs.cleaning import cleaned
from diptych.inputs.strangers import check_paths
from diptych.inputs.tokenizer import Tokenizer, bounded, check_text

_AROUND = (1, 2)
"""Ids before and behind a text of CLIPS's: BERT's `[unused0]` and `[unused1]`."""


class HuggingFaceTokenizer(Tokenizer):
    """The tokenizer that `transformers.AutoTokenizer` makes of a folder or `org/name`.

    Texts are cleaned as open_clip does it for these tokenizers (broken encodings, HTML entities,
    white space; `clean`, `blank_separator`, `class_last` as in `TokenizerConfig`). Padding is the
    tokenizer's own id; one without padding, such as GPT-2's, pads with its end token. No code that
    lies beside it is run. `cached`: nothing is fetched from the hub. `cache_dir`: where what is
    fetched lies.
    Raises ConfigError when there is no such tokenizer.
    """

    def __init__(
        self,
        name: str,
        context_length: int = 77,
        clean: Cleaning = "spaces",
        blank_separator: bool = False,
        class_last: bool = False,
        cached: bool = False,
        cache_dir: str | Path | None = None,
    ):
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise ConfigError(
                "Hugging Face tokenizers need transformers: `pip install diptych[bridges]`"
            ) from error
        if not name:
            raise ConfigError(
                "tokenizer.kind is huggingface, so tokenizer.name must be a folder or org/name"
            )
        check_paths(Path(name))
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                name, local_files_only=cached, trust_remote_code=False, cache_dir=cache_dir
            )
        except Exception as error:  # whatever its classes raise for files that aren't theirs
            fetch = f"; fetch it first: hf download {name}"
            raise ConfigError(
                f"transformers finds no tokenizer at {name!r}: {first_line(error)}"
                + (fetch if cached and not Path(name).exists() else "")
            ) from error
        self._name, self.context_length = name, context_length
        self._cleaning: Cleaning = clean
        with self._reading():
            pad_id = self._tokenizer.pad_token_id
            if pad_id is None:
                pad_id = self._tokenizer.eos_token_id
            self.mask_id = self._tokenizer.mask_token_id
            self.special_ids = frozenset(self._tokenizer.all_special_ids)
            self.vocab_size = len(self._tokenizer)
            self.blank: int | None = self._tokenizer.sep_token_id if blank_separator else None
            """The separator, where it becomes a 0."""
            self._last: int | None = self._class_token() if class_last else None
        if self._last is not None:
            self.special_ids |= {*_AROUND, self._last}
        if pad_id is None:
            raise ConfigError(f"the tokenizer {name!r} has neither a padding nor an end token")
        self.pad_id = pad_id

    @property
    def library(self) -> Any:
        """transformers' tokenizer itself."""
        return self._tokenizer

    def encode(self, text: str) -> list[int]:
        """The ids with the tokenizer's own special tokens, at most `context_length`; with a class
        token at the end, as many."""
        if self._last is not None:
            first, last = _AROUND
            words = self._ids(text, add_special_tokens=False, verbose=False)
            row = [first, *words[: self.context_length - 3], last]
            return row + [self.pad_id] * (self.context_length - 1 - len(row)) + [self._last]
        return self._ids(text, truncation=True, max_length=self.context_length)

    def length(self, text: str) -> int:
        """How many ids `encode` would give without an end of the context, and without padding."""
        if self._last is not None:
            return 3 + len(self._ids(text, add_special_tokens=False, verbose=False))
        return len(self._ids(text, verbose=False))

    def decode(self, ids: Sequence[int] | Int[Tensor, " length"]) -> str:
        """The text without special tokens."""
        words = [int(number) for number in ids]
        if self._last is not None:
            words = [number for number in words if number not in _AROUND]
        return self._tokenizer.decode(words, skip_special_tokens=True)

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files (`tokenizer.json`, `tokenizer_config.json`, ...) into
        `folder`."""
        self._tokenizer.save_pretrained(str(folder))

    def _class_token(self) -> int:
        """Raises ConfigError where there is none."""
        if self._tokenizer.cls_token_id is None:
            raise ConfigError(
                f"tokenizer.class_last: the tokenizer {self._name!r} has no class token"
            )
        return self._tokenizer.cls_token_id

    def _ids(self, text: str, **options: Any) -> list[int]:
        with self._reading():
            ids = list(self._tokenizer(self.clean(text), **options)["input_ids"])
        return ids if self.blank is None else [0 if id_ == self.blank else id_ for id_ in ids]

    @contextmanager
    def _reading(self) -> Generator[None, None, None]:
        """Files that load may still lack what they refer to, such as the unknown token."""
        try:
            yield
        except DiptychError:
            raise  # it says what is wrong, such as a caption that is no text
        except Exception as error:  # whatever its classes raise then
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ConfigError(f"the tokenizer {self._name!r} is damaged: {reason}") from error

    def clean(self, text: str) -> str:
        """Without what is lost before ids are made: see `cleaned`."""
        return cleaned(bounded(check_text(text), self.context_length), self._cleaning)
