"""CLIP_benchmark's JSON, read and written (github.com/LAION-AI/CLIP_benchmark 1.6.2), so that old
figures stand beside ours and tools made for it read ours.

Its file has six keys: dataset, model, pretrained, task, metrics, language. Naming trap: its
`image_retrieval_recall` is our `text_to_image`, its `text_retrieval_recall` our `image_to_text`.
"""

import json
import math
import re
from typing import Any

from diptych.bounded import parse_json
from diptych.errors import DataError
from diptych.evaluation.result import Result

_TASKS = {
    "zero-shot": "zeroshot_classification",
    "multilabel": "zeroshot_classification",
    "retrieval": "zeroshot_retrieval",
    "linear": "linear_probe",
}
_CLASSIFICATION = {"acc1": "top1", "acc5": "top5", "mean_per_class_recall": "mean_per_class"}
_MULTILABEL = {"mean_average_precision": "map"}
_RETRIEVAL = {
    f"{theirs}_retrieval_recall@{k}": f"{ours}_r{k}"
    for theirs, ours in (("image", "text_to_image"), ("text", "image_to_text"))
    for k in (1, 5, 10)
}
_METRICS = (
    _CLASSIFICATION
    | _MULTILABEL
    | _RETRIEVAL
    | {f"lp_{name}": ours for name, ours in _CLASSIFICATION.items()}
)
"""Their names and ours."""
_MAIN = ("map", "mean_recall", "top1")


def to_clip_benchmark(result: Result) -> str:
    """The result as CLIP_benchmark would have written it. Raises DataError for a task that it
    doesn't have.

    >>> from diptych.evaluation import Result, to_clip_benchmark
    >>> metrics = {"top1": 0.75, "mean_per_class": 0.5}
    >>> named = {"data": {"name": "pets"}, "model": {"name": "mine"}}
    >>> result = Result(task="zero-shot", metrics=metrics, protocol={}, **named)
    >>> json.loads(to_clip_benchmark(result))["metrics"]
    {'acc1': 0.75, 'mean_per_class_recall': 0.5}
    """
    if result.task not in _TASKS:
        raise DataError(
            f"CLIP_benchmark has no task that is {result.task!r}; it has {', '.join(_TASKS)}"
        )
    prefix = "lp_" if result.task == "linear" else ""
    names = {
        name: ours for name, ours in _METRICS.items() if name.startswith("lp_") == bool(prefix)
    }
    few = len(result.class_names) < 5 and result.task != "retrieval"
    metrics = {
        name: result.metrics[ours]
        for name, ours in names.items()
        if ours in result.metrics and not (few and ours == "top5")
    }
    return json.dumps(
        {
            "dataset": result.data.get("name", ""),
            "model": result.model.get("name", ""),
            "pretrained": result.model.get("fingerprint", ""),
            "task": _TASKS[result.task],
            "metrics": metrics,
            "language": "en",
        }
    )


def from_clip_benchmark(text: str) -> Result:
    """The result in a file that CLIP_benchmark wrote. Raises DataError if the text is something
    else.

    Retrieval gets its mean recall where all six recalls are there.

    >>> from diptych.evaluation import from_clip_benchmark
    >>> values = {"dataset": "wds/cars", "model": "ViT-B-32", "pretrained": "openai"}
    >>> values |= {"task": "zeroshot_classification", "metrics": {"acc1": 0.6, "acc5": math.nan}}
    >>> result = from_clip_benchmark(json.dumps(values))
    >>> result.metrics, result.data["name"], result.model["name"]
    ({'top1': 0.6}, 'cars', 'ViT-B-32, openai')
    """
    try:
        values = parse_json(text)
        task = {theirs: ours for ours, theirs in reversed(_TASKS.items())}[values["task"]]
        found = {
            _METRICS[name]: float(value)
            for name, value in values["metrics"].items()
            if name in _METRICS
        }
        dataset = re.sub("^wds/", "", values["dataset"])
        model = ", ".join(filter(None, (values["model"], values["pretrained"])))
        rest: dict[str, Any] = {
            name: value for name, value in values["metrics"].items() if name not in _METRICS
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"not a result of CLIP_benchmark: {error}") from error
    metrics = {name: value for name, value in found.items() if math.isfinite(value)}
    if not metrics:
        raise DataError("not a result of CLIP_benchmark: it has no metrics that are known here")
    if set(_RETRIEVAL.values()) <= metrics.keys():
        metrics["mean_recall"] = sum(metrics[name] for name in _RETRIEVAL.values()) / len(
            _RETRIEVAL
        )
    main = next((name for name in _MAIN if name in metrics), next(iter(metrics)))
    return Result(
        task="multilabel" if "map" in metrics else task,
        metrics=metrics,
        protocol={
            "profile": "clip-benchmark",
            "metric": main,
            "language": values.get("language", "en"),
        }
        | rest,
        data={"name": dataset},
        model={"name": model},
        versions={},
        date="",
    )
