"""diptych report RUN_OR_RESULT... --out page.html --table results.md"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diptych.cli.parse import parse
from diptych.errors import ConfigError, DataError

if TYPE_CHECKING:
    from diptych.evaluation import Result
    from diptych.reports import Section


@dataclass(frozen=True, kw_only=True)
class Report:
    """Make one HTML page of training runs and evaluation results; it needs no network.

    diptych report runs/clip results/*.json --out page.html --table results.md

    CLIP_benchmark's JSON files are read as well, and can be written.
    """

    sources: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN_OR_RESULT")]
    """Folders that `diptych train` wrote, JSON files that `diptych evaluate` or CLIP_benchmark
    wrote."""
    out: str = "report.html"
    """The page."""
    title: str = "Diptych report"
    """Its heading."""
    table: tuple[str, ...] = ()
    """Write the table of models by sets, too: .md, .csv or .tex."""
    published: str = ""
    """A CSV file of published figures (model, task, metric, value, source) to stand beside the
    measured ones."""
    clip_benchmark: str = ""
    """Write each result as CLIP_benchmark's JSON into this folder."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Report, "report", arguments)
    from diptych import reports

    runs = [Path(source) for source in options.sources if Path(source).is_dir()]
    results = {path: _read(path) for path in map(Path, options.sources) if path not in runs}
    published = reports.read_published(options.published) if options.published else {}
    sections: list[Section] = []
    for folder in runs:
        sections += _describe_run(folder)
    if len(results) > 1 or options.table:
        if not results:
            raise ConfigError("--table needs results; name JSON files of `diptych evaluate`")
        board = reports.board(list(results.values()), published)
        found = (
            reports.overview(board),
            reports.shifts(board),
            reports.differences(board, list(results.values())),
        )
        sections += [section for section in found if section]
        if note := reports.replaced(board):
            print(note, file=sys.stderr)
        for path in options.table:
            print(reports.write_table(path, board))
    for path, result in results.items():
        sections += reports.describe_result(result, name=path.stem)
        if options.clip_benchmark:
            _export(result, Path(options.clip_benchmark) / path.name)
    print(reports.write(options.out, options.title, [*sections, reports.environment()]))


def _describe_run(folder: Path) -> "list[Section]":
    from diptych import reports
    from diptych.training import load_run, read_metrics

    rows = folder / "metrics.jsonl"
    return reports.describe_run(
        load_run(folder), read_metrics(rows) if rows.exists() else [], name=str(folder)
    )


def _read(path: Path) -> "Result":
    from diptych.evaluation import Result, from_clip_benchmark

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} can't be read: {error}; name folders of runs and JSON files of results"
        ) from None
    try:
        return Result.load(path)
    except DataError as ours:
        try:
            return from_clip_benchmark(text)
        except DataError:
            raise ours from None


def _export(result: "Result", path: Path) -> None:
    from diptych.durable import write_file
    from diptych.evaluation import to_clip_benchmark

    text = to_clip_benchmark(result)
    write_file(path, lambda part: part.write_text(text, encoding="utf-8"))
    print(path)
