"""Tables for other programs: CSV as RFC 4180 has it, with a line feed alone at the end of a row."""

import csv
import re
from io import TextIOBase
from typing import Any

_END = "\r\n"
_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Halves of surrogate pairs that stand for no byte of a file's name."""


class _Rows:
    def __init__(self, file: TextIOBase):
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(_HALVES.sub("\ufffd", row.removesuffix(_END)) + "\n")


def csv_rows(file: TextIOBase) -> Any:
    """What writes rows of cells into a text file, as `csv.writer` does, whatever is in them: line
    breaks of each kind stay in their cells (a carriage return alone, too, which `csv.writer` quotes
    only where it ends rows), and text that no file can hold is replaced.

    >>> import io
    >>> from diptych.cells import csv_rows
    >>> file = io.StringIO()
    >>> csv_rows(file).writerows([("a\\rb", 'c"d'), ("e", 1.5)])
    >>> file.getvalue()
    '"a\\rb","c""d"\\ne,1.5\\n'
    """
    return csv.writer(_Rows(file), lineterminator=_END)
