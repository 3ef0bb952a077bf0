"""What a run or an evaluation came to, as one page that opens anywhere and needs no network."""

from diptych.reports.html import write
from diptych.reports.results import describe_result, describe_run
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

__all__ = [
    "Cell",
    "GridRow",
    "Section",
    "config",
    "confusion",
    "curves",
    "describe_result",
    "describe_run",
    "environment",
    "grid",
    "headline",
    "pictures",
    "prose",
    "table",
    "write",
]
