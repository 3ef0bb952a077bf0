"""What samples are called: ids of any kind as 16 bytes each, which are compared and sorted.

An id of 32 hexadecimal digits is its own 16 bytes, as DataComp's `uid` has it; of any other text
they are a BLAKE2b hash. No two of 10^12 samples have the same by chance (a probability below
10^-14).
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

KEY = "__key__"
"""In place of a field: the samples' keys, by webdataset's name for them."""
ID = np.dtype("S16")
"""NumPy compares and sorts it byte by byte."""
NONE = bytes(ID.itemsize)
"""Of a sample without an id."""
_DIGITS = re.compile(r"[0-9a-fA-F]{24,32}")
"""A number of 128 bits; some tools leave its leading zeros out."""

Values = Shaped[np.ndarray, "_"]
"""Ids, of dtype `ID`."""


class Ids(NamedTuple):
    """The ids of a source's samples, in their order."""

    identity: str
    """Another one where they are others."""
    read: Callable[[], Values]

    @classmethod
    def of(cls, values: Values) -> "Ids":
        """Those in memory."""
        return cls(hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest(), lambda: values)


def text_of(value: object) -> str:
    """The id that a field holds, a text or a whole number; empty: none.

    >>> from diptych.data.ids import text_of
    >>> text_of(" a1 "), text_of(7), text_of(7.0), text_of(None), text_of(0.5), text_of([1])
    ('a1', '7', '7', '', '', '')
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():  # pandas' form of a column with gaps
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def value_of(text: str) -> bytes:
    """An id as 16 bytes.

    >>> from diptych.data.ids import value_of
    >>> value_of("00112233445566778899AABBCCDDEEFF").hex(), value_of("cat/1.png").hex()
    ('00112233445566778899aabbccddeeff', '83652b0a6ec929501b2174b9d410aa5b')
    """
    if not text:
        return NONE
    if _DIGITS.fullmatch(text):
        return bytes.fromhex(text.zfill(2 * ID.itemsize))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def values_of(texts: Iterable[str]) -> Values:
    """Ids as 16 bytes each."""
    return np.frombuffer(b"".join(map(value_of, texts)), ID)
