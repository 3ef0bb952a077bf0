"""Names on a terminal. They come from files and from strangers: a control character among them
would move the cursor, ring the bell or write the window's title."""

import unicodedata

_JOINERS = "\u200c\u200d"
"""Format characters that words and emoji are written with."""
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode: control, format, surrogates, separators of lines and paragraphs."""


def escaped(text: str) -> str:
    r"""The text with control characters (line breaks, too), marks that turn the direction of
    writing, and halves of surrogate pairs shown instead of sent.

    >>> from diptych.terminal import escaped
    >>> print(escaped("red\x1b[31m\nfile"))
    red\x1b[31m\nfile
    """
    return "".join(_shown(each) for each in text)


def _shown(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _UNSEEN:
        return character
    if "\udc80" <= character <= "\udcff":  # a byte of a name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
