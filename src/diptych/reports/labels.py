"""What models and sets are called on a page and in a table: as shortly as tells them apart."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from diptych import datasets
from diptych.evaluation import Result
from diptych.evaluation.names import model_names, short_names


class Line(NamedTuple):
    """Who was measured."""

    model: str
    """Its label: no other model of the report has it."""
    how: str
    """The way to resize, the profile where it isn't our own, what was compared where that wasn't
    vectors, and the frames of each clip where they are several."""

    def __str__(self) -> str:
        return ", ".join(filter(None, self))


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Of all models and sets of one report.

    >>> from diptych.evaluation import Result
    >>> from diptych.reports.labels import Labels
    >>> common = {"task": "zero-shot", "metrics": {"top1": 0.5}, "protocol": {"resize": "crop"}}
    >>> one = Result(data={"name": "a/test"}, model={"name": "runs/a/seed0"}, **common)
    >>> other = Result(data={"name": "b/test/"}, model={"name": "runs/b/seed0"}, **common)
    >>> labels = Labels.of([one, other])
    >>> str(labels.line(one)), labels.task(other)
    ('a/seed0, crop', 'b/test')
    """

    models: Mapping[str, str]
    """From what results have to labels."""
    sets: Mapping[str, str]

    @classmethod
    def of(cls, results: Sequence[Result]) -> "Labels":
        """For exactly these results."""
        own = [_set(result) for result in results if _known(result) is None]
        return cls(
            models=model_names(_model(result) for result in results),
            sets=short_names(own, taken=datasets.names()),
        )

    def line(self, result: Result) -> Line:
        """The line of the table that a result belongs to."""
        return Line(model=self.models[_model(result)], how=_how(result))

    def task(self, result: Result) -> str:
        """The set, behind `linear/` or `fewshot/` where a classifier was trained."""
        name = _known(result) or self.sets[_set(result)]
        return f"{result.task}/{name}" if result.task in ("linear", "fewshot") else name


def natural(text: str) -> list[str | int]:
    """A key to sort by: numbers in a text count as numbers, so that step 9 stands before step 10.

    >>> from diptych.reports.labels import natural
    >>> sorted(["step-10", "step-9", "a"], key=natural)
    ['a', 'step-9', 'step-10']
    """
    parts = re.split(r"([0-9]+)", text)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _model(result: Result) -> str:
    return str(result.model.get("name") or "?")


def _set(result: Result) -> str:
    return str(result.data.get("name") or result.data.get("path") or "?")


def _known(result: Result) -> str | None:
    """The name of a set that the package knows. Data of one's own has a path."""
    known = datasets.builtin(_set(result))
    return known.name if known and "path" not in result.data else None


def _how(result: Result) -> str:
    protocol = {name: str(result.protocol.get(name, "")) for name in ("resize", "profile", "by")}
    ours = {"profile": ("own", "diptych"), "by": ("vectors",)}
    words = [word for name, word in protocol.items() if word not in ours.get(name, ())]
    words += [f"{frames} frames"] if (frames := result.protocol.get("frames", 1)) > 1 else []
    return ", ".join(filter(None, words))
