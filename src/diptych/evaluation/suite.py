"""Tasks x models x ways of resizing. What is finished is kept; what fails stops nothing else."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from diptych.datasets import Dataset
from diptych.distributed import FAILURES, on_main, together
from diptych.encoder import Encoder, FeatureExtractor
from diptych.errors import DataError
from diptych.evaluation.engine import Engine
from diptych.evaluation.result import Result
from diptych.evaluation.results import ResultKey, Results
from diptych.evaluation.tasks import Task

OnResult = Callable[[ResultKey, Result], None]


def run_suite(
    models: Mapping[str, Encoder],
    tasks: Sequence[Task],
    open_splits: Callable[[Task], Mapping[str, Dataset]],
    engine: Engine,
    *,
    resizes: Sequence[str] = (),
    out: Path | None = None,
    predictions: Path | None = None,
    on_result: OnResult = lambda key, result: None,
) -> Results:
    """Measure every model on every task; with `out`, each result is written below it as soon as it
    is there, and one that is there already, with the same digest of model, preprocessing, files,
    prompts and procedure, is kept. With `predictions`, what was predicted of each picture is
    written below it, a CSV file for each result of a classification.

    `open_splits` finds a task's data; a task that it can't open fails for all models. `resizes`
    overrule those of the datasets. `on_result` is called with each result that was measured.

    >>> from diptych import Encoder, models, pretrained
    >>> from diptych.evaluation.engine import Engine
    >>> from diptych.evaluation.tasks import open_splits, parse_tasks
    >>> encoders = {"tiny": Encoder(models.build(pretrained.get("tiny")))}
    >>> tasks = parse_tasks("synthetic:16,nothing.tar")
    >>> results = run_suite(encoders, tasks, open_splits, Engine())
    >>> list(results), list(results.failures.values())
    ([ResultKey(task='synthetic:16', model='tiny', resize='crop')], \
["nothing.tar doesn't exist"])
    """
    results = Results()
    for task in tasks:
        try:
            splits = together(engine.peers, partial(open_splits, task))
            extractors = _extractors(engine, models, task, resizes or splits["test"].resizes)
            paths = _paths(engine, task, splits, extractors, out)
            finished = on_main(engine.peers, partial(_finished, paths, predictions, engine.maps))
        except FAILURES as error:
            keys = [ResultKey(task.name, model, ", ".join(resizes)) for model in models]
            results.failures |= dict.fromkeys(keys, _reason(error))
            continue
        for key, result in finished.items():
            results.add(key, result, paths[key])
            results.kept.add(key)
        left = {key: extractor for key, extractor in extractors.items() if key not in finished}
        if left:
            _measure(engine, task, splits, left, paths, predictions, results, on_result)
    return results


def _extractors(
    engine: Engine, models: Mapping[str, Encoder], task: Task, resizes: Sequence[str]
) -> dict[ResultKey, FeatureExtractor]:
    found = dict[ResultKey, FeatureExtractor]()
    for model, encoder in models.items():
        for resize, extractor in engine.extractors(encoder, resizes).items():
            found[ResultKey(task.name, model, resize)] = extractor
    return found


def _paths(
    engine: Engine,
    task: Task,
    splits: Mapping[str, Dataset],
    extractors: Mapping[ResultKey, FeatureExtractor],
    out: Path | None,
) -> dict[ResultKey, Path]:
    """Where each result is written; none without a folder."""
    if out is None:
        return {}
    digests = {key: engine.key(task, splits, extractor) for key, extractor in extractors.items()}
    return {key: out / file_name(key, digest) for key, digest in digests.items()}


def _finished(
    paths: Mapping[ResultKey, Path], predictions: Path | None, maps: bool
) -> dict[ResultKey, Result]:
    """The results that lie there whole, with their predictions and heat maps where those are asked
    for."""
    found = dict[ResultKey, Result]()
    for key, path in paths.items():
        try:
            result = Result.load(path)
        except (OSError, DataError):
            continue
        classified = bool(result.calibration)
        if predictions and classified and not _table(predictions, path).exists():
            continue
        if maps and result.mistakes and not any("maps" in each for each in result.mistakes):
            continue
        found[key] = result
    return found


def _measure(
    engine: Engine,
    task: Task,
    splits: Mapping[str, Dataset],
    extractors: Mapping[ResultKey, FeatureExtractor],
    paths: Mapping[ResultKey, Path],
    predictions: Path | None,
    results: Results,
    on_result: OnResult,
) -> None:
    """All models with one decode of each picture; if that fails, one by one, so that the others get
    through."""
    try:
        measured = engine.measure(task, splits, list(extractors.values()))
        found = {key: _named(result, key.model) for key, result in zip(extractors, measured)}
        on_main(engine.peers, partial(_save, found, paths, predictions))
    except FAILURES as error:
        if len(extractors) == 1:
            results.failures |= dict.fromkeys(extractors, _reason(error))
            return
        for key, extractor in extractors.items():
            _measure(engine, task, splits, {key: extractor}, paths, predictions, results, on_result)
        return
    for key, result in found.items():
        results.add(key, result, paths.get(key))
        on_result(key, result)


def _save(
    found: Mapping[ResultKey, Result], paths: Mapping[ResultKey, Path], predictions: Path | None
) -> None:
    for key, result in found.items():
        path = paths.get(key) or Path(file_name(key, result.key))
        # The result comes last: where it lies, all that belongs to it lies.
        if predictions and result.predictions:
            result.predictions.save(_table(predictions, path))
        if key in paths:
            result.save(path)


def _table(folder: Path, result: Path) -> Path:
    """Where the predictions of a result are written."""
    return folder / f"{result.stem}.csv"


def _named(result: Result, model: str) -> Result:
    """What the caller calls the model, which `identity` may call otherwise."""
    return replace(result, model=result.model | {"name": model})


def file_name(key: ResultKey, digest: str) -> str:
    """Of a result: readable, and another one for whatever gives other figures."""
    words = (Path(key.model.rstrip("/")).name, key.task, key.resize)
    plain = [re.sub(r"[^\w+=-]+", "-", word).strip("-") for word in words]
    return ".".join([*plain, digest[:8], "json"])


def _reason(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
