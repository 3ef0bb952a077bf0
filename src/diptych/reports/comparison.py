"""Models against each other: which differences are real, and how much of ImageNet's accuracy other
pictures leave."""

from collections.abc import Mapping, Sequence

from diptych import datasets
from diptych.evaluation import (
    Outcomes,
    Paired,
    Result,
    Verdict,
    compare_outcomes,
    robustness,
    smallest_difference,
    verdicts,
)
from diptych.reports import sections
from diptych.reports.board import Board, Line, label, line_of, task_name
from diptych.reports.sections import Section

_Key = tuple[str, str, Line]
_REFERENCE = "imagenet1k"
_COLUMNS = ("set", "model", "points", "95 % interval", "p", "verdict", "could be told")


def differences(
    table: Board, measured: Sequence[tuple[Result, Mapping[str, Outcomes]]]
) -> Section | None:
    """Every line against the first one of `table`, on the samples that both answered; None where
    nothing can be paired.

    Each result comes with the outcomes that lie beside its file; of several about the same cell the
    newest counts.

    >>> import numpy as np
    >>> from diptych import reports
    >>> from diptych.evaluation import Outcomes, Result
    >>> common = {"task": "zero-shot", "protocol": {"metric": "top1"}, "data": {"name": "pets"}}
    >>> results = [Result(metrics={"top1": v}, model={"name": n}, **common) for n, v in (("a", 0.5), ("b", 1.0))]
    >>> names = [f"{i}.jpg" for i in range(40)]
    >>> outcomes = [{"top1": Outcomes.of(np.arange(40) // right, names)} for right in (20, 40)]
    >>> section = reports.differences(reports.board(results), list(zip(results, outcomes)))
    >>> section.body["rows"][0][:3], section.body["rows"][0][5]
    (['pets', 'a', '-50.00'], 'worse')
    """
    newest = {(task_name(result), line_of(result)): found for result, found in _by_date(measured)}
    kept = {line for (_, line), found in newest.items() if found}
    best, pairs = (
        next((line for line in table.lines if line in kept), table.lines[0]),
        dict[_Key, Paired](),
    )
    for (task, line), found in newest.items():
        against = newest.get((task, best), {})
        for metric in found.keys() & against.keys() if line != best else ():
            if found[metric].keys == against[metric].keys:
                pairs[task, metric, line] = compare_outcomes(against[metric], found[metric])
    if not pairs:
        return None
    places = {str(key): key for key in sorted(pairs, key=str)}
    rows = [
        _row(*places[verdict.name], verdict)
        for verdict in verdicts({name: pairs[key] for name, key in places.items()})
    ]
    note = (
        f"Each against {label(best)}, on the same samples. p: McNemar's test (random signs "
        "where captions share a "
        "picture), corrected for the number of lines (Holm); real below 0.05. Last column: "
        "the smallest difference "
        "that a set of this size would show four times out of five."
    )
    return sections.table("Which differences are real", _COLUMNS, rows, note=note)


def shifts(table: Board) -> Section | None:
    """ImageNet's accuracy, and that on sets that shift its pictures, zero-shot and by linear probe;
    None where they weren't measured together.

    >>> from diptych import reports
    >>> from diptych.evaluation import Result
    >>> common = {"task": "zero-shot", "protocol": {"metric": "top1"}, "model": {"name": "a"}}
    >>> sets = (("imagenet1k", 0.75), ("imagenet-v2", 0.5))
    >>> results = [Result(metrics={"top1": v}, data={"name": name}, **common) for name, v in sets]
    >>> reports.shifts(reports.board(results)).body["rows"][0][:3]
    ['a', '75.0', '50.0']
    """
    shifted = datasets.GROUPS["imagenet-shifts"]
    accuracies = dict[str, dict[str, float]]()
    for (line, column), cell in table.cells.items():
        kind, _, name = column.task.rpartition("/")
        if column.metric == "top1" and kind in ("", "linear"):
            accuracies.setdefault(label(line) + (", linear probe" if kind else ""), {})[name] = (
                cell.value
            )
    found = [row for row in robustness(accuracies, _REFERENCE, shifted) if any(row.shifts.values())]
    if not found:
        return None
    rows = [
        [
            row.name,
            *map(
                _percent,
                (row.reference, *(row.shifts[name] for name in shifted), row.mean, row.drop),
            ),
        ]
        for row in found
    ]
    note = (
        "Per cent. The mean is over ImageNet and all shifts; the drop is what the mean "
        "lies below ImageNet."
    )
    return sections.table(
        "Robustness", ("model", _REFERENCE, *shifted, "mean", "drop"), rows, note=note
    )


def _row(task: str, metric: str, line: Line, verdict: Verdict) -> list[str]:
    change, paired = verdict.paired.difference, verdict.paired
    disagreement = (paired.only_first + paired.only_second) / paired.n
    words = ("better" if change.value > 0 else "worse") if verdict.real else "no real difference"
    return [
        task if metric == "top1" else f"{task}, {metric}",
        label(line),
        f"{100 * change.value:+.2f}",
        f"{100 * change.low:+.2f} to {100 * change.high:+.2f}",
        f"{verdict.p_value:.2g}",
        words,
        f"{100 * smallest_difference(paired.n, disagreement):.2f}",
    ]


def _by_date(
    measured: Sequence[tuple[Result, Mapping[str, Outcomes]]],
) -> list[tuple[Result, Mapping[str, Outcomes]]]:
    return sorted(measured, key=lambda pair: pair[0].date)


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{100 * share:.1f}"
