"""All that verbs print: sentences and tables."""

import os
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from diptych.terminal import escaped


def say(sentence: object, error: bool = False) -> None:
    """Print one line, on stderr with `error`; control characters of names in it are shown."""
    print(escaped(str(sentence)), file=sys.stderr if error else sys.stdout)


def shown_path(path: str) -> str:
    """Relative to here where it lies below; as text, whatever its bytes."""
    here = os.getcwd()
    if path.startswith(here + os.sep):
        path = os.path.relpath(path, here)
    return escaped(path)


class Names(Table):
    """A table without lines whose texts are shown as they are: square brackets are no markup."""

    def __init__(self, *headers: str):
        super().__init__(box=None)
        for header in headers:
            self.add_column(header)

    def add_column(self, header: Any = "", *rest: Any, **options: Any) -> None:
        """A column of this name."""
        super().add_column(_cell(header), *rest, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """A row of these texts."""
        super().add_row(*map(_cell, cells), **options)


def _cell(text: Any) -> Any:
    return Text(escaped(text), overflow="fold") if isinstance(text, str) else text


def show(table: Names) -> None:
    """Print it as wide as the terminal; as wide as it is where nobody looks (a pipe, a file)."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)
    console.print(table)
