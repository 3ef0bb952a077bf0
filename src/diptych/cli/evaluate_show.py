"""What `diptych evaluate` prints: one result, or the table of many."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from diptych.cli.show import Names, say, show
from diptych.evaluation import Result, ResultKey, Results
from diptych.evaluation.results import described

if TYPE_CHECKING:
    from diptych.reports.board import Figure

_CLASSES_SHOWN = 20


def show_result(result: Result) -> None:
    """The figures, the hardest classes, and the bad samples that were left out."""
    figures = Names(result.task, "")
    for name, value in result.metrics.items():
        if name != "top5" or len(result.class_names) > 5:
            figures.add_row(name, f"{value:.2%}")
    figures.add_row("pictures", str(result.data["used"]))
    if "captions" in result.protocol:
        figures.add_row("captions", str(result.protocol["captions"]))
    show(figures)
    say(f"measured on {_part(result)}: {result.data['description']}")
    if result.class_names:
        rows = zip(result.class_names, result.per_class, map(sum, result.confusion))
        ordered = sorted((row for row in rows if row[1] is not None), key=lambda row: row[1] or 0)
        classes = Names("class", "right", "pictures")
        for name, share, count in ordered[:_CLASSES_SHOWN]:
            classes.add_row(name, f"{share:.1%}", str(count))
        show(classes)
        if len(ordered) > _CLASSES_SHOWN:
            say(f"the {_CLASSES_SHOWN} hardest of {len(ordered)} classes")
    for remark in result.data["remarks"]:
        say(f"note: {remark}", error=True)
    for bad in result.data["unusable_samples"]:
        say(f"left out: {bad['file']} {bad['key']}: {bad['reason']}", error=True)


def _part(result: Result) -> str:
    split = result.data["split"]
    return f"the {split} part" if split else "all of it"


def show_progress(key: ResultKey, result: Result) -> None:
    """A line for a result that was measured."""
    metric = result.protocol["metric"]
    figure = f"{metric} {result.metrics[metric]:.2%}"
    say(f"{described(key)}: {figure}", error=True)


def show_results(results: Results, words: Sequence[str] = ()) -> None:
    """A line a task, a column a model; the means of groups; the files, and what failed. `words` are
    the tasks as they were asked for."""
    if results:
        head, *rows = results.rows()
        table = Names()
        for column in head:
            table.add_column(column)
        for row in rows:
            table.add_row(*row)
        show(table)
        show_averages(list(results.values()), ",".join(words).split(","))
    remarks = {f"{key.task}: {remark}": None for key, remark in _remarks(results)}
    for remark in remarks:
        say(remark, error=True)
    for path in results.paths.values():
        say(path)
    if results.kept:
        count = f"{len(results.kept)} of {len(results)}"
        say(f"{count} results were there already", error=True)
    for line in results.failure_lines():
        say(line, error=True)


def _remarks(results: Results) -> Iterator[tuple[ResultKey, str]]:
    """What a reader of the figures should know: another size, missing classes, odd names."""
    for key, result in results.items():
        for remark in result.data.get("remarks", ()):
            yield key, remark


def show_averages(results: Sequence[Result], words: Sequence[str]) -> None:
    """Of each model the means of complete groups, the published ones in brackets; of groups that
    were asked for which sets are missing."""
    from diptych.reports import averages, board

    found = board(results)
    means = {line: found.group_means(line) for line in found.lines}
    if groups := found.group_names():
        table = Names("mean of")
        for line in found.lines:
            table.add_column(str(line))
        for name in groups:
            cells = (means[line].get(name) for line in found.lines)
            table.add_row(name, *("—" if cell is None else _average(cell) for cell in cells))
        show(table)
    if any(line.how.startswith(averages.BETTER) for line in found.lines):
        say(averages.NOTE)
    if any(cell.partial for line in found.lines for cell in means[line].values()):
        say("* over sets of which some have another number of samples than was published")
    for line in found.lines:
        for name, missing in found.missing(line).items():
            if name in words:
                say(f"no mean of {name} for {line}: {', '.join(missing)} missing")


def _average(mean: "Figure") -> str:
    printed = f" ({100 * mean.published.value:.1f})" if mean.published else ""
    return f"{mean.value:.2%}{'*' if mean.partial else ''}{printed}"
