"""What was measured, on what, with what, and how: one JSON file."""

import base64
import glob
import itertools
import json
import os
import platform
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from diptych.bounded import parse_json, read_text
from diptych.config.serialize import read_as
from diptych.durable import write_file
from diptych.errors import DataError
from diptych.evaluation.per_sample import PerSample
from diptych.evaluation.predictions import SamplePredictions

_NO_RESULT = "not a result of `diptych evaluate`: "


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: version(name) for name in ("diptych", "torch")
    }


class _Protocol(TypedDict, total=False):
    metric: str
    resize: str
    profile: str
    by: str
    frames: int
    captions: int


class _Data(TypedDict, total=False):
    name: str
    path: str
    used: int
    samples: int
    unusable: int
    expected: int | None
    remarks: list[str]


class _Model(TypedDict, total=False):
    name: str
    provenance: dict[str, Any]


class _Calibration(TypedDict, total=False):
    error: float
    accuracy: list[float | None]
    confidence: list[float | None]


class _Mistake(TypedDict):
    true: str
    taken_for: str
    confidence: float
    jpeg: str
    square: NotRequired[str]
    maps: NotRequired[tuple[tuple[tuple[int, ...], ...], ...]]


class _Json(TypedDict):
    """What a file of a result holds, as far as anything is computed from it."""

    task: str
    metrics: dict[str, float]
    protocol: _Protocol
    data: _Data
    model: _Model
    class_names: tuple[str, ...]
    per_class: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    intervals: NotRequired[dict[str, tuple[float, float]]]
    calibration: NotRequired[_Calibration]
    mistakes: NotRequired[tuple[_Mistake, ...]]
    versions: NotRequired[dict[str, str]]
    key: NotRequired[str]
    date: NotRequired[str]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One evaluation. Everything in it is plain JSON, so that two results can be compared line by
    line.

    >>> from diptych.evaluation import Result
    >>> result = Result(task="zero-shot", metrics={"top1": 0.5}, protocol={}, data={}, model={})
    >>> Result.from_json(result.to_json()) == result
    True
    """

    task: str
    metrics: dict[str, float]
    """Shares in [0, 1]."""
    protocol: dict[str, Any]
    """Everything about the procedure that can change the numbers."""
    data: dict[str, Any]
    """What the dataset was, how many of its samples were used, and which were bad."""
    model: dict[str, Any]
    """Identity and provenance of the weights."""
    class_names: tuple[str, ...] = ()
    """Zero-shot: in the order of the labels; so are the next two."""
    per_class: tuple[float | None, ...] = ()
    """Share of correct predictions; None for a class without pictures."""
    confusion: tuple[tuple[int, ...], ...] = ()
    """`confusion[y][p]`: pictures of class y taken for class p."""
    versions: dict[str, str] = field(default_factory=_versions)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    """Metric -> [low, high]: confidence intervals of 95 %, over which pictures the dataset has."""
    calibration: dict[str, Any] = field(default_factory=dict)
    """Zero-shot: the expected calibration error; pictures, share of correct predictions and mean
    confidence of each bin."""
    mistakes: tuple[dict[str, Any], ...] = ()
    """Zero-shot: the wrong predictions that the model was most confident of: key, true, taken_for,
    confidence, jpeg (base64); of some `square` and `maps` (`evaluation.seen`)."""
    per_sample: dict[str, PerSample] = field(default_factory=dict, compare=False, repr=False)
    """Metric -> what each sample's result is. They lie beside the file, as NAME.METRIC.npz."""
    predictions: SamplePredictions | None = field(default=None, compare=False, repr=False)
    """Of zero-shot and linear classification, where it was measured just now: what was predicted of
    each picture. `predictions.save("predictions.csv")` writes a table; files of results have none.
    """
    key: str = ""
    """A digest of everything that the figures depend on."""
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def check_classes(self) -> None:
        """Raises DataError where what is said of classes is of another number of them."""
        count = len(self.class_names) or len(self.confusion)
        sizes = {*map(len, self.confusion), len(self.confusion) or count}
        if self.per_class:
            sizes.add(len(self.per_class))
        if sizes != {count}:
            raise DataError(f"{_NO_RESULT}it tells of different numbers of classes")
        if min(itertools.chain.from_iterable(self.confusion), default=0) < 0:
            raise DataError(f"{_NO_RESULT}it counts fewer than no pictures")
        if not all(share is None or 0 <= share <= 1 for share in self.per_class):
            raise DataError(f"{_NO_RESULT}its shares of classes aren't between 0 and 1")
        calibration = self.calibration
        if calibration and not {"error", "accuracy", "confidence"} <= set(calibration):
            raise DataError(f"{_NO_RESULT}its calibration isn't whole")

    def to_json(self) -> str:
        """The result as text; lists stand on one line each."""
        values = asdict(replace(self, per_sample={}, predictions=None))
        del values["per_sample"], values["predictions"]
        rows = values.pop("confusion")
        lines = [f"  {json.dumps(name)}: {_json(value)}" for name, value in values.items()]
        lines.append(
            '  "confusion": [' + ",".join(f"\n    {json.dumps(row)}" for row in rows) + "\n  ]"
        )
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """The result that `to_json` wrote. Raises DataError if the text is something else."""
        try:
            values = read_as(_Json, parse_json(text, finite=True), "the result")
            values["intervals"] = {
                name: list(ends) for name, ends in values.get("intervals", {}).items()
            }
            for mistake in values.get("mistakes", ()):
                _check_pictures(mistake)
            result = cls(**values)
        except (ValueError, TypeError) as error:
            raise DataError(f"{_NO_RESULT}{error}") from error
        if not result.metrics:
            raise DataError(f"{_NO_RESULT}it has no metrics")
        result.check_classes()
        return result

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the JSON file, whole or not at all, once the per-sample results lie beside it."""
        path = Path(path)
        for name, found in self.per_sample.items():
            found.save(path.with_suffix(f".{name}.npz"))
        return write_file(path, lambda part: part.write_text(self.to_json(), encoding="utf-8"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Result":
        """What `save` wrote, with the per-sample results that lie beside the file; none if they
        were moved away. Raises DataError for files that hold something else, and OSError.

        >>> import tempfile
        >>> import numpy as np
        >>> from diptych.evaluation import PerSample, Result
        >>> found = {"top1": PerSample.of(np.array([0, 3]), ["a.jpg", "b.jpg"])}
        >>> result = Result(
        ...     task="zero-shot", metrics={"top1": 0.5}, protocol={}, data={}, model={},
        ...     per_sample=found,
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Result.load(result.save(f"{folder}/a.json")).per_sample["top1"].ranks.tolist()
        [0, 3]
        """
        path = Path(path)
        try:
            result = cls.from_json(read_text(path))
        except (ValueError, DataError) as error:
            reason = str(error).removeprefix(_NO_RESULT)
            raise DataError(f"{path} is {_NO_RESULT}{reason}") from error
        return replace(result, per_sample=_beside(path))


def _check_pictures(mistake: _Mistake) -> None:
    """Raises ValueError for what are no pictures in base64, or no heat maps."""
    base64.b64decode(mistake["jpeg"], validate=True)
    base64.b64decode(mistake.get("square", ""), validate=True)
    maps = mistake.get("maps", ())
    for each in maps:
        widths = {*map(len, each)}
        if len(maps) != 2 or len(widths) != 1 or 0 in widths:
            raise ValueError("a mistake's heat maps aren't two rectangles of numbers")


def _beside(path: Path) -> dict[str, PerSample]:
    files = sorted(path.parent.glob(f"{glob.escape(path.stem)}.*.npz"))
    found = {file.name.removeprefix(f"{path.stem}.").removesuffix(".npz"): file for file in files}
    # A name with a dot belongs to another result, whose name begins like this one's.
    return {name: PerSample.load(file) for name, file in found.items() if "." not in name}


def _json(value: Any) -> str:
    """Dictionaries over several lines, all else on one."""
    return (
        json.dumps(value, indent=2).replace("\n", "\n  ")
        if isinstance(value, dict)
        else json.dumps(value)
    )
