"""Evaluation in one call: what `diptych evaluate` does, in Python."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

from diptych import datasets
from diptych.config import DataConfig
from diptych.datasets import Dataset
from diptych.datasets.own import METRICS, ClassNames
from diptych.distributed import Peers, together
from diptych.encoder import Cache, Encoder
from diptych.errors import ConfigError, UnknownNameError
from diptych.evaluation.engine import Engine, check_resizes
from diptych.evaluation.result import Result
from diptych.evaluation.results import Results
from diptych.evaluation.scorers import scorer
from diptych.evaluation.suite import OnResult, run_suite
from diptych.evaluation.tasks import (
    TRAINED,
    Task,
    Tasks,
    check_frames,
    open_splits,
    parse_tasks,
)

By = Literal["vectors", "tokens", "tokens-as-published"]


@overload
def evaluate(
    models: Encoder,
    tasks: str,
    data: DataConfig | str | os.PathLike[str],
    *,
    class_names: ClassNames | Mapping[str, ClassNames] = ...,
    templates: str | Sequence[str] = ...,
    image_key: str = ...,
    image_root: str | os.PathLike[str] = ...,
    caption_key: str = ...,
    max_bad_share: float | None = ...,
    shots: Sequence[int] = ...,
    by: By = ...,
    resize: str = ...,
    batch_size: int = ...,
    limit: int = ...,
    maps: bool = ...,
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
    frames: int = ...,
    class_names: ClassNames | Mapping[str, ClassNames] = ...,
    templates: str | Sequence[str] = ...,
    image_key: str = ...,
    image_root: str | os.PathLike[str] = ...,
    caption_key: str = ...,
    max_bad_share: float | None = ...,
    shots: Sequence[int] = ...,
    by: By = ...,
    resize: str | Sequence[str] = ...,
    out: str | os.PathLike[str] | None = ...,
    predictions: str | os.PathLike[str] | None = ...,
    on_result: OnResult = ...,
    batch_size: int = ...,
    limit: int = ...,
    maps: bool = ...,
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
    frames: int = 1,
    class_names: ClassNames | Mapping[str, ClassNames] = (),
    templates: str | Sequence[str] = (),
    image_key: str = "",
    image_root: str | os.PathLike[str] = "",
    caption_key: str = "",
    max_bad_share: float | None = None,
    shots: Sequence[int] = (),
    by: By = "vectors",
    resize: str | Sequence[str] = "",
    out: str | os.PathLike[str] | None = None,
    predictions: str | os.PathLike[str] | None = None,
    on_result: OnResult = lambda key, result: None,
    batch_size: int = 64,
    limit: int = 0,
    maps: bool = False,
    progress: bool = False,
    cache: Cache | str | os.PathLike[str] | None = None,
    peers: Peers | None = None,
) -> Result | Results:
    """Measure models on evaluation datasets.

    `tasks` are names of datasets below `data_root`, groups (`vtab+`), patterns (`cifar*`),
    `linear/NAME` and `fewshot/NAME`, `package.module:NAME` of an `EvaluationSet` of your own, and
    paths of data. `profile` says whose conventions count, `sizes="warn"` lets a dataset have
    another number of samples than the published one. A clip is seen by `frames` of its frames,
    spread evenly: its vector is the mean of theirs; 1: the middle one. Several models are a
    sequence, or a mapping that names them; they share the decoding of pictures. The answer is a
    `Results`, a mapping of (task, model, resize) to `Result`. A task that fails stops no other:
    `.failures` says why. With `out`, every result is written into that folder as soon as it is
    there, and kept when the same call is made again; with `predictions` a CSV file for each
    classification in that folder says what was predicted of each picture. `on_result(key, result)`
    is called with each result that was measured.

    With `data`, a folder of class folders, a table or shards, one model is measured on it, and the
    answer is one `Result`. `tasks` is then "zero-shot", which needs labels and class names,
    "retrieval", which needs captions, "linear" or "fewshot", which need a training and a test part,
    or "": what the data is good for. Data with parts for training and test is measured on its test.

    For data of your own are `class_names`, a sequence, or a file with one a line (a mapping: of
    each task), empty: the data's own; `templates`, a set's name ("simple", "openai-7"), a file, one
    template or several, empty: the data's; `image_key`, `image_root` and `caption_key`, as in
    `DataConfig`. `shots` are training samples a class, of `fewshot/`; empty: as many of 1, 2, 4, 8
    and 16 as there are. `by="tokens"` compares patches with words (FILIP),
    `by="tokens-as-published"` as DeCLIP did it. `resize` is "crop", "squash", "pad" or, for tasks,
    "both"; empty: as the profile says, or as the model was trained. `limit` uses the first so many
    samples of each split; 0: all. `maps` keeps heat maps of the surest mistakes of zero-shot
    classification, which `diptych report` draws. What `cache`, a folder or a `Cache`, has isn't
    encoded again. With `peers` every process encodes its share of the pictures, and all get the
    same results.

    Bad samples are left out and listed in the result; a greater share of them than `max_bad_share`
    (by default 0.01 of your own data, and 0 of others) is a DataError. Raises ConfigError or
    UnknownNameError for a request that doesn't fit.

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
        shots=tuple(shots),
        cache=cache if isinstance(cache, Cache) else Cache(cache),
        batch_size=batch_size,
        limit=limit,
        maps=maps,
        progress=progress,
        peers=peers or Peers(),
    )
    own: dict[str, Any] = {
        "image_key": image_key,
        "image_root": os.fspath(image_root),
        "caption_key": caption_key,
    }
    settings = replace(
        data if isinstance(data, DataConfig) else DataConfig(),
        **{name: value for name, value in own.items() if value},
    )
    opening = partial(
        open_splits,
        data_root=data_root,
        profile=profile,
        sizes=sizes,
        frames=frames,
        class_names=class_names,
        templates=templates,
        settings=settings,
        max_bad_share=max_bad_share,
        limit=limit,
    )
    resizes = _resizes(resize)
    if data is not None and (out is not None or predictions is not None):
        raise ConfigError(
            "out and predictions are for tasks; write a single result with result.save(path), its "
            "predictions with result.predictions.save(path)"
        )
    if data is not None:
        check_frames(frames, (), by)
        return _on_own_data(engine, models, _own_task(tasks, data, by), opening, resizes)
    if isinstance(tasks, str) and tasks in _own_kinds() - datasets.GROUPS.keys():
        raise ConfigError(f"{tasks} of what? give it data: evaluate(model, {tasks!r}, 'photos/')")
    scorer("zero-shot", by)
    datasets.profile(profile)
    asked = parse_tasks(tasks)
    check_frames(frames, asked, by)
    if (class_names or templates) and not any(isinstance(task.data, str) for task in asked):
        raise ConfigError(
            "class_names and templates are for data of your own; those of these tasks' datasets "
            "are known (profile says whose)"
        )
    return run_suite(
        _named(models),
        asked,
        opening,
        engine,
        resizes=resizes,
        out=None if out is None else Path(out),
        predictions=None if predictions is None else Path(predictions),
        on_result=on_result,
    )


def _own_kinds() -> set[str]:
    return {*METRICS, *TRAINED}


def _own_task(kind: Tasks, data: DataConfig | str | os.PathLike[str], by: str) -> Task:
    """What is done with data of one's own."""
    path = data.path if isinstance(data, DataConfig) else os.fspath(data)
    if not isinstance(kind, str):
        raise ConfigError(f"with data the task is one of {', '.join(sorted(_own_kinds()))}")
    if kind and kind not in _own_kinds():
        if datasets.builtin(kind):
            raise ConfigError(f"{kind} brings its own data; say where it lies by data_root")
        raise UnknownNameError("task", kind, _own_kinds())
    scorer(kind or "zero-shot", by)
    name = f"{kind}/{path}" if kind in TRAINED else path
    return Task(name=name, data=path, kind=kind or "direct")


def _on_own_data(
    engine: Engine,
    models: Encoder | Sequence[Encoder] | Mapping[str, Encoder],
    task: Task,
    opening: Callable[[Task], Mapping[str, Dataset]],
    resizes: Sequence[str],
) -> Result:
    if not isinstance(models, Encoder) or len(resizes) > 1:
        raise ConfigError(
            "data is for one model and one way to resize; for more, give its path as a task"
        )
    splits = together(engine.peers, partial(opening, task))
    [extractor] = engine.extractors(models, resizes).values()
    [result] = engine.measure(task, splits, [extractor])
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
