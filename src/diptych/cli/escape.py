"""What others named, on the terminal."""

import os
import unicodedata


def escaped(text: str, keep: str = "") -> str:
    r"""With control characters shown instead of sent, but for those of `keep`: a name must not
    move the cursor, colour the screen or begin a line.

    >>> from diptych.cli.escape import escaped
    >>> escaped("a\x1b[31m\n.jpg")
    'a\\x1b[31m\\n.jpg'
    """
    return "".join(each if each in keep else _shown(each) for each in text)


def shown_path(path: str) -> str:
    """Relative to here where it lies below; as text, whatever its bytes."""
    here = os.getcwd()
    if path.startswith(here + os.sep):
        path = os.path.relpath(path, here)
    return escaped(path)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    if "\udc80" <= character <= "\udcff":  # a byte of a name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
