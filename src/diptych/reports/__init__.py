"""What a run or an evaluation came to, as one page that opens anywhere and needs no network."""

from diptych.reports.board import Board, board, read_published
from diptych.reports.comparison import differences, shifts
from diptych.reports.html import write
from diptych.reports.record import Published
from diptych.reports.results import describe_result, describe_run, overview, replaced
from diptych.reports.sections import (
    Cell,
    GridRow,
    Section,
    config,
    confusion,
    curves,
    environment,
    grid,
    headline,
    pictures,
    prose,
    table,
)
from diptych.reports.tables import to_csv, to_latex, to_markdown, write_table

__all__ = [
    "Board",
    "Cell",
    "GridRow",
    "Published",
    "Section",
    "board",
    "config",
    "confusion",
    "curves",
    "describe_result",
    "describe_run",
    "differences",
    "environment",
    "grid",
    "headline",
    "overview",
    "pictures",
    "prose",
    "read_published",
    "replaced",
    "shifts",
    "table",
    "to_csv",
    "to_latex",
    "to_markdown",
    "write",
    "write_table",
]
