"""Texts beyond the context: only their beginning reaches the tower, and somebody has to say so."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diptych.errors import TruncationWarning
from diptych.inputs.tokenizer import Tokenizer

_SHOWN = 60
"""Characters of a text in a sentence."""


@dataclass(frozen=True, kw_only=True)
class Truncated:
    """How many of some texts are longer than the context.

    >>> from diptych.inputs.truncation import Truncated
    >>> str(Truncated(count=1, of=1, first="word " * 100, context=77))[:71]
    '1 of 1 texts is longer than the context of 77 tokens, and its end has n'
    """

    count: int
    of: int
    first: str
    """The first of them."""
    context: int
    """Tokens of a text at the most."""

    def __str__(self) -> str:
        those = "is longer" if self.count == 1 else "are longer"
        end = "its end has" if self.count == 1 else "their ends have"
        first = self.first if len(self.first) <= _SHOWN else f"{self.first[:_SHOWN]}…"
        return (
            f"{self.count:,} of {self.of:,} texts {those} than the context of {self.context} "
            f"tokens, and {end} no effect: shorten them; the first is {first!r}"
        )


def find_truncated(
    tokenizer: Tokenizer, texts: Sequence[str], rows: Iterable[Sequence[int]] | None = None
) -> Truncated | None:
    """Which of `texts` the tokenizer cuts, given their ids if they are known; None: none.

    >>> from diptych.inputs import ClipTokenizer
    >>> from diptych.inputs.truncation import find_truncated
    >>> find_truncated(ClipTokenizer(5), ["a cat", "a cat on a mat"]).count
    1
    """
    ids = map(tokenizer.encode, texts) if rows is None else rows
    pairs = zip(texts, ids, strict=True)
    found = [text for text, row in pairs if tokenizer.truncates(text, row)]
    if not found:
        return None
    return Truncated(
        count=len(found), of=len(texts), first=found[0], context=tokenizer.context_length
    )


def warn_if_truncated(found: Truncated | None, stacklevel: int = 2) -> None:
    """A TruncationWarning, if there is something to say; `stacklevel` is `warnings.warn`'s, of the
    caller."""
    if found is not None:
        warnings.warn(str(found), TruncationWarning, stacklevel=stacklevel + 1)
