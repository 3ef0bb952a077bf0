"""diptych report RUN_OR_RESULT... --out page.html"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diptych.cli.parse import parse
from diptych.errors import DataError

if TYPE_CHECKING:
    from diptych.reports import Section


@dataclass(frozen=True, kw_only=True)
class Report:
    """Make one HTML page of training runs and evaluation results; it needs no network.

    diptych report runs/clip results/*.json --out page.html"""

    sources: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN_OR_RESULT")]
    """Folders that `diptych train` wrote, JSON files that `diptych evaluate` wrote."""
    out: str = "report.html"
    """The page."""
    title: str = "Diptych report"
    """Its heading."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Report, "report", arguments)
    from diptych import reports

    sections = [section for source in options.sources for section in _sections(Path(source))]
    print(reports.write(options.out, options.title, [*sections, reports.environment()]))


def _sections(source: Path) -> "list[Section]":
    from diptych import reports
    from diptych.evaluation import Result
    from diptych.training import load_run, read_metrics

    if source.is_dir():
        rows = source / "metrics.jsonl"
        return reports.describe_run(load_run(source), read_metrics(rows) if rows.exists() else [], name=str(source))
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source} can't be read: {error}; name folders of runs and JSON files of results") from None
    return reports.describe_result(Result.from_json(text), name=source.stem)
