"""What a run or an evaluation came to, as one page that opens anywhere and needs no network."""

from diptych.reports.board import Board, board, read_published
from diptych.reports.comparison import differences, shifts
from diptych.reports.html import write
from diptych.reports.labels import Line
from diptych.reports.record import Published
from diptych.reports.results import (
    describe_result,
    describe_runs,
    headline_of,
    overview,
    progress,
    remarks_of,
    replaced,
)
from diptych.reports.sections import (
    Cell,
    GridRow,
    Section,
    config,
    config_differences,
    confusion,
    curves,
    environment,
    facts,
    grid,
    group,
    headline,
    hits,
    pictures,
    prose,
    remarks,
    table,
)
from diptych.reports.tables import to_csv, to_latex, to_markdown, write_table

__all__ = [
    "Board",
    "Cell",
    "GridRow",
    "Line",
    "Published",
    "Section",
    "board",
    "config",
    "config_differences",
    "confusion",
    "curves",
    "describe_result",
    "describe_runs",
    "differences",
    "environment",
    "facts",
    "grid",
    "group",
    "headline",
    "headline_of",
    "hits",
    "overview",
    "pictures",
    "progress",
    "prose",
    "read_published",
    "remarks",
    "remarks_of",
    "replaced",
    "shifts",
    "table",
    "to_csv",
    "to_latex",
    "to_markdown",
    "write",
    "write_table",
]
