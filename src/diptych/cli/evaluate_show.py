"""What `diptych evaluate` prints: one result, or the table of many."""

import sys
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from diptych.cli.show import show
from diptych.evaluation import Result, ResultKey, Results
from diptych.evaluation.results import described

_CLASSES_SHOWN = 20


def show_result(result: Result) -> None:
    """The figures, the hardest classes, and the bad samples that were left out."""
    figures = Table(result.task, "", box=None)
    for name, value in result.metrics.items():
        if name != "top5" or len(result.class_names) > 5:
            figures.add_row(name, f"{value:.2%}")
    figures.add_row("pictures", str(result.data["used"]))
    if "captions" in result.protocol:
        figures.add_row("captions", str(result.protocol["captions"]))
    show(figures)
    print(f"measured on {_part(result)}: {result.data['description']}")
    if result.class_names:
        rows = zip(result.class_names, result.per_class, map(sum, result.confusion))
        ordered = sorted((row for row in rows if row[1] is not None), key=lambda row: row[1] or 0)
        classes = Table("class", "right", "pictures", box=None)
        for name, share, count in ordered[:_CLASSES_SHOWN]:
            classes.add_row(Text(name), f"{share:.1%}", str(count))
        show(classes)
        if len(ordered) > _CLASSES_SHOWN:
            print(f"the {_CLASSES_SHOWN} hardest of {len(ordered)} classes")
    _show_remarks("", result.data["remarks"])
    for bad in result.data["unusable_samples"]:
        print(f"left out: {bad['file']} {bad['key']}: {bad['reason']}", file=sys.stderr)


def _part(result: Result) -> str:
    split = result.data["split"]
    return f"the {split} part" if split else "all of it"


def _show_remarks(task: str, remarks: Sequence[str]) -> None:
    """What a reader of the figures should know, a line each, on stderr."""
    for remark in remarks:
        print(f"note: {f'{task}: ' if task else ''}{remark}", file=sys.stderr)


def show_progress(key: ResultKey, result: Result) -> None:
    """A line for a result that was measured."""
    metric = result.protocol["metric"]
    figure = f"{metric} {result.metrics[metric]:.2%}"
    print(f"{described(key)}: {figure}", file=sys.stderr)


def show_results(results: Results) -> None:
    """A line a task, a column a model, the files, and what failed."""
    if results:
        head, *rows = results.rows()
        table = Table(box=None)
        for column in head:
            table.add_column(Text(column))
        for row in rows:
            table.add_row(*map(Text, row))
        show(table)
    said = {(key.task, *result.data.get("remarks", ())) for key, result in results.items()}
    for task, *remarks in sorted(said):
        _show_remarks(task, remarks)
    for path in results.paths.values():
        print(path)
    if results.kept:
        count = f"{len(results.kept)} of {len(results)}"
        print(f"{count} results were there already", file=sys.stderr)
    for line in results.failure_lines():
        print(line, file=sys.stderr)
