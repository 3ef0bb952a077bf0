"""OpenAI's tokenizer by its name: its words for start and end are `<|startoftext|>` and
`<|endoftext|>`."""

from diptych.compat import tokenizer
from diptych.compat.tokenizers.byte_pairs import (
    basic_clean,
    bytes_to_unicode,
    default_bpe,
    get_pairs,
    whitespace_clean,
)

__all__ = [
    "SimpleTokenizer",
    "basic_clean",
    "bytes_to_unicode",
    "default_bpe",
    "get_pairs",
    "whitespace_clean",
]


class SimpleTokenizer(tokenizer.SimpleTokenizer):
    """As open_clip's, with OpenAI's words.

    >>> from diptych.compat.clip.simple_tokenizer import SimpleTokenizer
    >>> SimpleTokenizer().encoder["<|startoftext|>"]
    49406
    """

    words = ("<|startoftext|>", "<|endoftext|>")
