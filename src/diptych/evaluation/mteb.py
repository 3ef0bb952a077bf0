"""Results that mteb wrote (github.com/embeddings-benchmark/mteb, version 2), read."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.bounded import parse_json, read_text
from diptych.errors import DataError
from diptych.evaluation.result import Result

_MAIN = "main_score"
_META = "model_meta.json"
"""Lies beside the results of one model."""


def read_mteb(path: str | Path) -> Result:
    """The result in a file that mteb wrote, `MODEL/REVISION/TASK.json`: its metrics, each the mean
    over splits and subsets, as mteb takes it; the model's name is that of `model_meta.json` beside
    it. Raises DataError for other files.

    >>> import json, tempfile
    >>> from diptych.evaluation import read_mteb
    >>> scores = {"test": [{"main_score": 0.5, "hf_subset": "default", "languages": ["eng-Latn"]}]}
    >>> values = {"task_name": "CIFAR10ZeroShot", "mteb_version": "2.26", "scores": scores}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "CIFAR10ZeroShot.json"
    ...     _ = file.write_text(json.dumps(values))
    ...     result = read_mteb(file)
    >>> result.metrics, result.data["name"]
    ({'main_score': 0.5}, 'CIFAR10ZeroShot')
    """
    path = Path(path)
    try:
        values = parse_json(read_text(path))
        scores: dict[str, list[dict[str, Any]]] = values["scores"]
        rows = [row for rows in scores.values() for row in rows]
        subsets = [str(row["hf_subset"]) for row in rows]
        metrics = _means(rows)
        name, version = str(values["task_name"]), str(values["mteb_version"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: not a result of mteb: {error}") from error
    if _MAIN not in metrics:
        raise DataError(f"{path}: not a result of mteb: it has no {_MAIN}")
    return Result(
        task="mteb",
        metrics=metrics,
        protocol={
            "profile": "mteb",
            "metric": _MAIN,
            "splits": list(scores),
            "subsets": list(dict.fromkeys(subsets)),
        },
        data={"name": name, "revision": str(values.get("dataset_revision", ""))},
        model={"name": _model(path.parent)},
        versions={"mteb": version},
        date="",
    )


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of the numbers that all rows have."""
    first = rows[0] if rows else {}
    shared = [name for name in first if all(_is_number(row.get(name)) for row in rows)]
    return {name: sum(float(row[name]) for row in rows) / len(rows) for name in shared}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _model(folder: Path) -> str:
    """Of the description beside the results, else of the folders."""
    try:
        known = parse_json(read_text(folder / _META))
    except (OSError, ValueError):
        known = None
    if isinstance(known, Mapping) and isinstance(known.get("name"), str):
        return known["name"]
    return folder.parent.name.replace("__", "/")
