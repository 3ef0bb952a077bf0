"""Evaluation in one call: what `diptych evaluate` does, in Python."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, overload

from diptych import datasets
from diptych.config import DataConfig
from diptych.datasets import open_own
from diptych.datasets.own import METRICS
from diptych.distributed import Peers
from diptych.encoder import Cache, Encoder
from diptych.errors import ConfigError
from diptych.evaluation.engine import Engine, check_resizes
from diptych.evaluation.result import Result
from diptych.evaluation.results import Results
from diptych.evaluation.scorers import scorer
from diptych.evaluation.suite import OnResult, run_suite
from diptych.evaluation.tasks import Task, Tasks, open_splits, parse_tasks

By = Literal["vectors", "tokens", "tokens-as-published"]


@overload
def evaluate(
    models: Encoder,
    tasks: str,
    data: DataConfig | str | os.PathLike[str],
    *,
    class_names: str | os.PathLike[str] | Sequence[str] = ...,
    templates: str | Sequence[str] = ...,
    by: By = ...,
    resize: str = ...,
    batch_size: int = ...,
    limit: int = ...,
    progress: bool = ...,
    cache: Cache | str | os.PathLike[str] | None = ...,
    peers: Peers | None = ...,
) -> Result: ...
@overload
def evaluate(
    models: Encoder | Sequence[Encoder] | Mapping[str, Encoder],
    tasks: Tasks,
    data: None = ...,
    *,
    data_root: str | os.PathLike[str] = ...,
    profile: str = ...,
    sizes: Literal["exact", "warn"] = ...,
    class_names: str | os.PathLike[str] | Sequence[str] = ...,
    templates: str | Sequence[str] = ...,
    by: By = ...,
    resize: str | Sequence[str] = ...,
    out: str | os.PathLike[str] | None = ...,
    on_result: OnResult = ...,
    batch_size: int = ...,
    limit: int = ...,
    progress: bool = ...,
    cache: Cache | str | os.PathLike[str] | None = ...,
    peers: Peers | None = ...,
) -> Results: ...
def evaluate(
    models: Encoder | Sequence[Encoder] | Mapping[str, Encoder],
    tasks: Tasks,
    data: DataConfig | str | os.PathLike[str] | None = None,
    *,
    data_root: str | os.PathLike[str] = ".",
    profile: str = "diptych",
    sizes: Literal["exact", "warn"] = "exact",
    class_names: str | os.PathLike[str] | Sequence[str] = (),
    templates: str | Sequence[str] = (),
    by: By = "vectors",
    resize: str | Sequence[str] = "",
    out: str | os.PathLike[str] | None = None,
    on_result: OnResult = lambda key, result: None,
    batch_size: int = 64,
    limit: int = 0,
    progress: bool = False,
    cache: Cache | str | os.PathLike[str] | None = None,
    peers: Peers | None = None,
) -> Result | Results:
    """Measure models on evaluation datasets.

    `tasks` are names of datasets below `data_root`, groups (`vtab+`), patterns (`cifar*`),
    `linear/NAME` and `fewshot/NAME`, `package.module:NAME` of an `EvaluationSet` of your own, and
    paths of data. `profile` says whose conventions count, `sizes="warn"` lets a dataset have
    another number of samples than the published one. Several models are a sequence, or a mapping
    that names them; they share the decoding of pictures. The answer is a `Results`, a mapping of
    (task, model, resize) to `Result`. A task that fails stops no other: `.failures` says why. With
    `out`, every result is written into that folder as soon as it is there, and kept when the same
    call is made again. `on_result(key, result)` is called with each result that was measured.

    With `data`, a folder of class folders, a table or shards, one model is measured on it, and the
    answer is one `Result`. `tasks` is then "zero-shot", which needs labels and class names, or
    "retrieval", which needs captions; a picture may have several.

    `class_names` and `templates` are for data of your own. `class_names` is a sequence, or a file
    with one a line; empty, the data's own. `templates` is a set's name ("simple", "openai-7"), one
    template or several; empty, the data's. `by="tokens"` compares patches with words (FILIP),
    `by="tokens-as-published"` as DeCLIP did it. `resize` is "crop", "squash", "pad" or, for tasks,
    "both"; empty: as the profile says, or as the model was trained. `limit` uses the first so many
    samples of each split; 0: all. What `cache`, a folder or a `Cache`, has isn't encoded again.
    With `peers` every process encodes its share of the pictures, and all get the same results.

    Bad samples are left out and listed in the result; more of them than the data's `max_bad_share`
    allows are a DataError. Raises ConfigError or UnknownNameError for a request that doesn't fit.

    >>> import diptych
    >>> from diptych import models, pretrained
    >>> encoder = diptych.Encoder(models.build(pretrained.get("tiny")), name="tiny")
    >>> result = diptych.evaluate(encoder, "zero-shot", "synthetic:16")
    >>> result.data["used"], sorted(result.metrics)
    (16, ['mean_per_class', 'top1', 'top5'])
    >>> results = diptych.evaluate(encoder, "synthetic:16,cifar10", data_root="nowhere")
    >>> results["synthetic:16", "tiny", "crop"].metrics == result.metrics, len(results.failures)
    (True, 1)
    """
    engine = Engine(
        by=by,
        cache=cache if isinstance(cache, Cache) else Cache(cache),
        batch_size=batch_size,
        limit=limit,
        progress=progress,
        peers=peers or Peers(),
    )
    resizes = _resizes(resize)
    if data is not None and out is not None:
        raise ConfigError("out is for tasks; write a single result with result.save(path)")
    if data is not None:
        return _on_own_data(engine, models, tasks, data, resizes, class_names, templates)
    if isinstance(tasks, str) and tasks in METRICS.keys() - datasets.GROUPS.keys():
        raise ConfigError(f"{tasks} of what? give it data: evaluate(model, {tasks!r}, 'photos/')")
    scorer("zero-shot", by)
    datasets.profile(profile)
    opening = partial(
        open_splits,
        data_root=data_root,
        profile=profile,
        sizes=sizes,
        class_names=class_names,
        templates=templates,
    )
    return run_suite(
        _named(models),
        parse_tasks(tasks),
        opening,
        engine,
        resizes=resizes,
        out=None if out is None else Path(out),
        on_result=on_result,
    )


def _on_own_data(
    engine: Engine,
    models: Encoder | Sequence[Encoder] | Mapping[str, Encoder],
    task: Tasks,
    data: DataConfig | str | os.PathLike[str],
    resizes: Sequence[str],
    class_names: str | os.PathLike[str] | Sequence[str],
    templates: str | Sequence[str],
) -> Result:
    if not isinstance(models, Encoder) or len(resizes) > 1:
        raise ConfigError(
            "data is for one model and one way to resize; for more, give its path as a task"
        )
    if not isinstance(task, str):
        raise ConfigError(f"with data the task is one of {', '.join(METRICS)}")
    if task not in METRICS and datasets.builtin(task):
        raise ConfigError(f"{task} brings its own data; say where it lies by data_root")
    if task in METRICS:
        scorer(task, engine.by)
    dataset = open_own(data, task, class_names=class_names, templates=templates)
    [extractor] = engine.extractors(models, resizes).values()
    [result] = engine.measure(
        Task(name=dataset.name, data=dataset.path), {"test": dataset}, [extractor]
    )
    return result


def _named(models: Encoder | Sequence[Encoder] | Mapping[str, Encoder]) -> dict[str, Encoder]:
    if isinstance(models, Mapping):
        return dict(models)
    encoders = [models] if isinstance(models, Encoder) else list(models)
    found = {encoder.name: encoder for encoder in encoders}
    if len(found) < len(encoders):
        raise ConfigError(
            f"a model stands twice in {', '.join(encoder.name for encoder in encoders)}; "
            'a mapping names them: {"a": one, "b": other}'
        )
    return found


def _resizes(resize: str | Sequence[str]) -> tuple[str, ...]:
    if resize == "both":
        return ("crop", "squash")
    found = tuple(filter(None, [resize] if isinstance(resize, str) else resize))
    check_resizes(found)
    return found
