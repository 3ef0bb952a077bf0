"""OpenAI's tokenizer by its name: its words for start and end are `<|startoftext|>` and
`<|endoftext|>`."""

from diptych.compat import tokenizer


class SimpleTokenizer(tokenizer.SimpleTokenizer):
    """As open_clip's, with OpenAI's words.

    >>> from diptych.compat.clip.simple_tokenizer import SimpleTokenizer
    >>> SimpleTokenizer().encoder["<|startoftext|>"]
    49406
    """

    words = ("<|startoftext|>", "<|endoftext|>")
