"""Tables on the terminal."""

from rich.console import Console
from rich.table import Table


def show(table: Table) -> None:
    """Print it as wide as the terminal; as wide as it is where nobody looks (a pipe, a file)."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)
    console.print(table)
