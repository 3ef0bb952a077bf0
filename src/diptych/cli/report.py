"""diptych report RUN_OR_RESULT... --out page.html --table results.md"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from diptych.bounded import read_text
from diptych.cli.parse import parse
from diptych.cli.show import say
from diptych.config.ranges import Filled
from diptych.errors import ConfigError, DataError, reason
from diptych.writable import check_apart, check_file, check_writable

if TYPE_CHECKING:
    from diptych.evaluation import Result
    from diptych.reports import Board, Section


@dataclass(frozen=True, kw_only=True)
class Report:
    """Make one HTML page of training runs and evaluation results; it needs no network.

    diptych report runs/clip results/*.json --out page.html --table results.md

    CLIP_benchmark's JSON files are read as well, and can be written.
    """

    sources: Annotated[
        Positional[tuple[str, ...]], arg(metavar="RUN_OR_RESULT"), Filled("RUN_OR_RESULT")
    ]
    """Folders that `diptych train` wrote, JSON files that `diptych evaluate` or CLIP_benchmark
    wrote, or folders of such files."""
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
    if not options.sources:
        raise ConfigError(
            "say what to report on: folders of runs, or JSON files of results, as in "
            "`diptych report runs/clip results/*.json --out page.html`"
        )
    _check_places(options)
    from diptych import reports

    sources = _sources(options)
    runs = [source for source in sources if Path(source).is_dir()]
    results = {path: _read(Path(path)) for path in sources if path not in runs}
    published = reports.read_published(options.published) if options.published else {}
    sections = _describe_runs(runs) if runs else []
    if results:
        board = reports.board(list(results.values()), published)
        if note := reports.replaced(board):
            say(note, error=True)
        for path in options.table:
            say(reports.write_table(path, board))
        sections += _describe_results(board, list(results.values()))
    for path, result in results.items() if options.clip_benchmark else ():
        _export(result, Path(options.clip_benchmark) / Path(path).name)
    page = [*sections, reports.group("Environment", [reports.environment("")])]
    say(reports.write(options.out, options.title, page))
    if not results:
        _refuse_what_needs_results(options)


def _sources(options: Report) -> list[str]:
    """Folders of runs and files of results, as they are named or lie in named folders."""
    found = list[str]()
    for source in options.sources:
        files = sorted(map(str, Path(source).glob("*.json")))
        found += [source] if (Path(source) / "run.json").exists() or not files else files
    return list(dict.fromkeys(found))


def _check_places(options: Report) -> None:
    """Raises ConfigError where the page or a table couldn't be written, before it is made."""
    check_file(options.out, "--out")
    for table in options.table:
        check_file(table, "--table")
    check_apart({"--out": options.out} | {f"--table {table}": table for table in options.table})
    if options.clip_benchmark:
        check_writable(options.clip_benchmark, "--clip-benchmark")
        files = [path for path in map(Path, _sources(options)) if not path.is_dir()]
        names = Counter(path.name for path in files)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ConfigError(
                f"--clip-benchmark: two results are called {twice[0]}, and one would be written "
                "over the other; give them other names"
            )


def _refuse_what_needs_results(options: Report) -> None:
    flags = {
        "--table": options.table,
        "--published": options.published,
        "--clip-benchmark": options.clip_benchmark,
    }
    asked = [flag for flag, value in flags.items() if value]
    if asked:
        raise ConfigError(
            f"{' and '.join(asked)}: that is made of results, and only runs were named, of which "
            "the page is written; name JSON files of `diptych evaluate`, too"
        )


def _describe_runs(folders: Sequence[str]) -> "list[Section]":
    from diptych import reports
    from diptych.evaluation.names import model_names
    from diptych.training import load_run, read_metrics

    names = model_names(folders)
    rows = dict[str, list[dict[str, Any]]]()
    for folder, name in names.items():
        metrics = Path(folder) / "metrics.jsonl"
        rows[name] = read_metrics(metrics) if metrics.exists() else []
    return reports.describe_runs(
        {name: load_run(Path(folder)) for folder, name in names.items()}, rows
    )


def _describe_results(board: "Board", results: "Sequence[Result]") -> "list[Section]":
    """The tables over all of them, then each one, folded."""
    from diptych import reports
    from diptych.evaluation import Result
    from diptych.reports import Line, Section

    newest_last = sorted(results, key=lambda result: result.date)
    of_task = dict[str, list[Result]]()
    for result in newest_last:
        of_task.setdefault(board.labels.task(result), []).append(result)
    anchors, sets, number = dict[tuple[Line, str], str](), list[Section](), 0
    for task in dict.fromkeys(column.task for column in board.columns):
        groups = list[Section]()
        own = of_task[task]
        for result in sorted(own, key=lambda each: board.lines.index(board.labels.line(each))):
            line, number = board.labels.line(result), number + 1
            # Of several about the same cell the last one, the newest, is what the table links to.
            anchors[line, task] = f"result-{number}"
            title = str(line) if len(own) > 1 else f"{task}: {line}"
            members, note = reports.describe_result(result), reports.headline_of(result)
            folded = len(results) > 1
            groups.append(reports.group(title, members, note, f"result-{number}", folded=folded))
        sets += [reports.group(task, groups, folded=False)] if len(own) > 1 else groups
    together = (
        reports.overview(board, anchors),
        _remarks(board, results),
        reports.progress(board, results),
        reports.shifts(board),
        reports.differences(board, results),
    )
    return [section for section in together if section] + sets


def _remarks(board: "Board", results: "Sequence[Result]") -> "Section | None":
    from diptych import reports

    lines = list[str]()
    for result in results:
        about = f"{board.labels.task(result)}: {board.labels.line(result)}"
        lines += [f"{about}: {remark}" for remark in reports.remarks_of(result)]
    return reports.remarks("Remarks", list(dict.fromkeys(lines))) if lines else None


def _read(path: Path) -> "Result":
    from diptych.evaluation import Result, from_clip_benchmark, read_mteb

    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} can't be read: {reason(error)}; name folders of runs and JSON files of results"
        ) from None
    try:
        return Result.load(path)
    except DataError:
        with contextlib.suppress(DataError):
            return from_clip_benchmark(text)
        with contextlib.suppress(DataError):
            return read_mteb(path)
        raise


def _export(result: "Result", path: Path) -> None:
    from diptych.durable import write_file
    from diptych.evaluation import to_clip_benchmark

    text = to_clip_benchmark(result)
    write_file(path, lambda part: part.write_text(text, encoding="utf-8"))
    say(path)
