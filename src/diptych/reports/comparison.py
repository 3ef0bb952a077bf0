"""Models against each other: which differences are real, and how much of ImageNet's accuracy other
pictures leave."""

from collections.abc import Mapping, Sequence

from diptych import datasets
from diptych.evaluation import (
    Paired,
    PerSample,
    Result,
    Verdict,
    paired_test,
    robustness,
    smallest_difference,
    verdicts,
)
from diptych.reports import sections
from diptych.reports.board import Board
from diptych.reports.labels import Line
from diptych.reports.sections import Section
from diptych.reports.tables import short_metric

_Key = tuple[str, str, Line]
_REFERENCE = "imagenet1k"
_LEAST = 0.001
"""The smallest p that is written out."""
_WORDS = ("model", "verdict")
_COLUMNS = (
    "set",
    "model",
    "points",
    "95 % interval",
    "p",
    "verdict",
    "least detectable",
)


def differences(table: Board, results: Sequence[Result]) -> Section | None:
    """Every line against the first one of `table`, on the samples that both were asked about; None
    where nothing can be paired.

    Results are compared by the per-sample results that they carry; of several about the same cell
    the newest counts.

    >>> import numpy as np
    >>> from diptych import reports
    >>> from diptych.evaluation import PerSample, Result
    >>> common = {"task": "zero-shot", "protocol": {"metric": "top1"}, "data": {"name": "pets"}}
    >>> names, results = [f"{i}.jpg" for i in range(40)], []
    >>> for model, correct in (("a", 20), ("b", 40)):
    ...     per_sample = {"top1": PerSample.of(np.arange(40) // correct, names)}
    ...     measured = {"metrics": {"top1": correct / 40}, "model": {"name": model}}
    ...     results.append(Result(**common, **measured, per_sample=per_sample))
    >>> section = reports.differences(reports.board(results), results)
    >>> section.body["rows"][0][:3], section.body["rows"][0][5]
    (['pets', 'a', '-50.00'], 'worse')
    """
    newest = dict[tuple[str, Line], Mapping[str, PerSample]]()
    for result in sorted(results, key=lambda result: result.date):
        newest[table.labels.task(result), table.labels.line(result)] = result.per_sample
    kept = {line for (_, line), found in newest.items() if found}
    best = next((line for line in table.lines if line in kept), table.lines[0])
    others = [line for line in table.lines if line != best]
    pairs = dict[_Key, Paired]()
    for task in dict.fromkeys(column.task for column in table.columns):
        for line in others:
            one, other = (newest.get((task, each), {}) for each in (best, line))
            for metric in [metric for metric in other if metric in one]:
                if one[metric].names_sha256 == other[metric].names_sha256:
                    pairs[task, metric, line] = paired_test(one[metric], other[metric])
    if not pairs:
        return None
    corrected = verdicts({str(key): pair for key, pair in pairs.items()})
    rows = [_row(*key, verdict) for key, verdict in zip(pairs, corrected, strict=True)]
    note = (
        f"Each against {best}, on the same samples. p: McNemar's test (random signs where "
        "captions share a picture), corrected for the number of lines (Holm); real below 0.05. "
        "Last column: the smallest difference that a set of this size would show four times out "
        "of five."
    )
    return sections.table("Which differences are real", _COLUMNS, rows, note=note, words=_WORDS)


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
            accuracies.setdefault(str(line) + (", linear probe" if kind else ""), {})[name] = (
                cell.value
            )
    found = [row for row in robustness(accuracies, _REFERENCE, shifted) if any(row.shifts.values())]
    if not found:
        return None
    rows = list[list[str]]()
    for row in found:
        figures = [row.reference, *map(row.shifts.get, shifted), row.mean, row.drop]
        rows.append([row.name, *map(_percent, figures)])
    note = (
        "Per cent. The mean is over ImageNet and all shifts; the drop is what the mean "
        "lies below ImageNet."
    )
    return sections.table(
        "Robustness", ("model", _REFERENCE, *shifted, "mean", "drop"), rows, note=note
    )


def _row(task: str, metric: str, line: Line, verdict: Verdict) -> list[str]:
    change, paired = verdict.paired.difference, verdict.paired
    # One sample at least: that they never disagreed here doesn't mean that they never will.
    disagreement = max(paired.only_first + paired.only_second, 1) / paired.n
    words = ("better" if change.value > 0 else "worse") if verdict.real else "no real difference"
    return [
        task if metric == "top1" else f"{task}, {short_metric(metric)}",
        str(line),
        f"{100 * change.value:+.2f}",
        f"{100 * change.low:+.2f} to {100 * change.high:+.2f}",
        "< 0.001" if verdict.p_value < _LEAST else f"{verdict.p_value:.2g}",
        words,
        f"{100 * smallest_difference(paired.n, disagreement):.2f}",
    ]


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{100 * share:.1f}"
