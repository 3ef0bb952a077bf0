"""The results of many tasks and models, as one table."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from diptych.errors import ConfigError
from diptych.evaluation.names import model_names
from diptych.evaluation.result import Result


class ResultKey(NamedTuple):
    """Which result: a task, a model, and a way to resize."""

    task: str
    model: str
    resize: str


class Results(Mapping[ResultKey, Result]):
    """A mapping of (task, model, resize) to `Result`, in the order in which they were measured.
    `str` gives a table: a line a task, a column a model.

    >>> from diptych.evaluation import Result, ResultKey, Results
    >>> result = Result(
    ...     task="zero-shot", metrics={"top1": 0.5}, protocol={"metric": "top1"}, data={}, model={}
    ... )
    >>> results = Results({ResultKey("cifar10", "mine", "crop"): result})
    >>> print(results)
    task     metric  mine, crop
    cifar10  top1    50.00%
    >>> results["cifar10", "mine", "crop"] is results.only(task="cifar10") is result
    True
    """

    def __init__(self, results: Mapping[ResultKey, Result] | None = None):
        self._results = dict(results or {})
        self.failures: dict[ResultKey, str] = {}
        """Why there is no result."""
        self.paths: dict[ResultKey, Path] = {}
        """The files of the results; empty where nothing is written."""
        self.kept: set[ResultKey] = set()
        """Of the results, those whose files were there already."""

    def __getitem__(self, key: tuple[str, str, str]) -> Result:
        key = ResultKey(*key)
        if key in self.failures:
            raise KeyError(f"{described(key)} failed: {self.failures[key]}")
        return self._results[key]

    def __iter__(self) -> Iterator[ResultKey]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def __str__(self) -> str:
        rows = self.rows()
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows if self]
        return "\n".join([*lines, *self.failure_lines()])

    def __repr__(self) -> str:
        return f"Results({len(self)} results, {len(self.failures)} failures)"

    def add(self, key: ResultKey, result: Result, path: Path | None = None) -> None:
        """Another result, and where it was written."""
        self._results[key] = result
        if path is not None:
            self.paths[key] = path

    def update(self, other: "Results") -> None:
        """Take over what another evaluation gave."""
        self._results |= other._results
        self.failures |= other.failures
        self.paths |= other.paths
        self.kept |= other.kept

    def only(self, *, task: str = "", model: str = "", resize: str = "") -> Result:
        """The one result of a task, a model or a way to resize; what is empty may be anything.

        Raises ConfigError where none fits, saying why it failed, or where several do.
        """
        wanted = (task, model, resize)
        fitting = [key for key in self if _fits(key, wanted)]
        if len(fitting) == 1:
            return self[fitting[0]]
        reasons = [why for key, why in self.failures.items() if _fits(key, wanted)]
        asked = described(ResultKey(*wanted)) or "nothing in particular"
        found = f"there are {len(fitting)} results for {asked}, not one"
        raise ConfigError(f"{found}: {'; '.join(reasons)}" if reasons else found)

    def failure_lines(self) -> list[str]:
        """A line for each failure."""
        return [f"failed: {described(key)}: {why}" for key, why in self.failures.items()]

    def rows(self) -> list[list[str]]:
        """The table: the head, then a line a task with its metric, in per cent."""
        columns = list(dict.fromkeys((key.model, key.resize) for key in self))
        names = model_names(model for model, _ in columns)
        heads = [", ".join(filter(None, (names[model], resize))) for model, resize in columns]
        rows = [["task", "metric", *heads]]
        for task in dict.fromkeys(key.task for key in self):
            own = {key[1:]: result for key, result in self.items() if key.task == task}
            # More than one where few-shot results have different numbers of shots.
            for metric in dict.fromkeys(result.protocol["metric"] for result in own.values()):
                cells = [_percent(own.get(column), metric) for column in columns]
                rows.append([task, metric, *cells])
        return rows


def described(key: ResultKey) -> str:
    """What is known of a key, for a sentence: model, task and way to resize."""
    return ", ".join(filter(None, (key.model, key.task, key.resize)))


def _fits(key: ResultKey, wanted: tuple[str, str, str]) -> bool:
    return all(not each or each == own for each, own in zip(wanted, key))


def _percent(result: Result | None, metric: str) -> str:
    return f"{result.metrics[metric]:.2%}" if result and metric in result.metrics else "—"
