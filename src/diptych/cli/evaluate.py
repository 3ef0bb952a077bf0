"""diptych evaluate MODEL... --tasks imagenet1k,vtab+,linear/cifar100 --data-root DIR --out
results/"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from diptych.cli.evaluate_check import check_used
from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.cli.show import say
from diptych.config.ranges import Count, Filled, Share, Some
from diptych.errors import ConfigError
from diptych.interrupts import listening
from diptych.writable import check_apart, check_file, check_writable

if TYPE_CHECKING:
    from diptych.distributed import Peers
    from diptych.encoder import Cache, Encoder
    from diptych.evaluation import Result, Results
    from diptych.evaluation.tasks import Task


_VECTORS = "vectors"
"""The folder of vectors in that of `--cache`."""
_PREDICTED = "--predictions are of zero-shot by vectors and of linear"


@dataclass(frozen=True, kw_only=True)
class Evaluate(Compute):
    """Measure models: on the sets that the field knows, or on your own.

    diptych evaluate MODEL --data photos/ --predictions photos.csv
    diptych evaluate MODEL --data 'test/{00..09}.tar' --class-names names.txt --out result.json
    diptych evaluate MODEL... --tasks imagenet1k,retrieval,linear/cifar100 --data-root DIR
    diptych evaluate --list

    With --tasks it writes a JSON file for each model and task; stopped, the same command goes on
    where it stopped. It runs under torchrun as well: the processes share the pictures.
    """

    models: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL..."), Filled("MODEL")] = ()
    """Runs, checkpoints, hf-hub:org/name, or names with published weights."""
    tasks: tuple[str, ...] = ()
    """Datasets, groups (vtab+, eva27, retrieval), patterns (cifar*), linear/SET, fewshot/SET;
    package.module:NAME of an evaluation dataset of your own; or paths of your own data."""
    data_root: str = "."
    """Folder in which the datasets lie."""
    profile: str = "diptych"
    """Whose conventions: diptych, eva-clip-18b, openai, clip-benchmark, declip or vtab."""
    resize: Literal["", "crop", "squash", "both"] = ""
    """How pictures become squares; by default as each model was trained. both: a result each."""
    sizes: Literal["exact", "warn"] = "exact"
    """Whether a dataset with another number of samples than the published one fails, or is remarked
    in the result."""
    frames: Some = 1
    """Sets of clips: so many frames of each, spread evenly (usual are 8 and 16); a clip's vector is
    the mean of theirs. 1: the middle one."""
    data: str = ""
    """One dataset of your own: a folder with a sub-folder per class, a table (.csv, .tsv, .parquet,
    .jsonl) or shards. Of sub-folders train and test (or val) the test is measured."""
    task: Literal["", "zero-shot", "retrieval", "linear", "fewshot"] = ""
    """Of --data: zero-shot needs labels, retrieval captions, linear and fewshot a training and a
    test part; by default what the data is good for, zero-shot or retrieval."""
    class_names: tuple[str, ...] = ()
    """Own data: a text file, one name a line; class folders need none. Of numbers the file has the
    order; of class folders it is compared by name, or has their sorted order. Per task:
    digits.tar=names.txt."""
    templates: tuple[str, ...] = ()
    """Own data: captions of a class: a set (name, simple, openai-80), templates such as 'a photo of
    a {}.', a text file of them, or a JSON file of prompts per class; by default those beside the
    data, or simple."""
    image_key: str = ""
    """Own data: the column, or the member of shards, that holds the picture."""
    image_root: str = ""
    """Own tables: the folder from which paths of pictures start; by default the table's."""
    caption_key: str = ""
    """Own data: the column, or the member of shards, that holds the caption."""
    max_bad_share: Share | None = None
    """The share of samples that may be bad; by default 0.01 of own data, 0 of others."""
    shots: tuple[Some, ...] = ()
    """fewshot/: training samples a class; by default those of 1, 2, 4, 8, 16 that there are."""
    by: Literal["vectors", "tokens", "tokens-as-published"] = "vectors"
    """Zero-shot by whole vectors, or token by token (FILIP): without padding, or as DeCLIP
    published it."""
    limit: Count = 0
    """Use the first so many samples of each split; 0: all."""
    cache: str = "~/.cache/diptych"
    """Folder for vectors, so that nothing is encoded twice; empty: keep none."""
    together: Count = 0
    """Models that are in memory at a time; they share the decoding of pictures. 0: all of them."""
    list: bool = False
    """Show the datasets and groups that are known: classes, size, metric, how to get them."""
    predictions: str = ""
    """Write what was predicted of each picture: key, true, predicted, probability. --data: a CSV
    file. --tasks: a folder of them."""
    maps: bool = False
    """Keep heat maps of zero-shot's surest mistakes in the results: `diptych report` draws them."""
    out: str = ""
    """--tasks: the folder of the results (by default results). --data: write the result to this
    JSON file, or into this folder (a name without an ending)."""


def run(arguments: Sequence[str]) -> int:
    """Parse and do it; 1 if a task failed."""
    options = parse(Evaluate, "evaluate", arguments)
    if options.list:
        from diptych.cli import evaluate_list

        return evaluate_list.show_sets(options.tasks)
    if not options.models:
        raise ConfigError(
            "say which model: `diptych evaluate MODEL --tasks cifar10`; `diptych models` lists some"
        )
    if bool(options.data) == bool(options.tasks):
        raise ConfigError(
            "say either --tasks, or --data with one set of your own, such as --data "
            f"{options.models[-1] if len(options.models) > 1 else 'photos/'}; "
            "`diptych evaluate --list` shows sets"
        )
    if options.data and (len(options.models) > 1 or options.resize == "both"):
        raise ConfigError(
            f"--data is for one model and one way to resize; for more: --tasks {options.data}"
        )
    check_used(options, options.tasks, options.data, options.task)
    _check_places(options)
    from diptych.distributed import connect
    from diptych.encoder import Cache
    from diptych.evaluation.tasks import check_frames, parse_tasks

    check_frames(options.frames, parse_tasks(options.tasks) if options.tasks else (), options.by)
    with connect((options.device or "").partition(":")[0]) as peers:
        cache = Cache(Path(options.cache).expanduser() / _VECTORS if options.cache else None)
        code = (_one if options.data else _many)(options, peers, cache)
        for path in cache.corrupt:
            say(f"corrupt, made again: {path}", error=True)
    return code


def _check_places(options: Evaluate) -> None:
    """Raises ConfigError where results or vectors couldn't be written, before they are made."""
    for flag, place in (("--out", options.out), ("--predictions", options.predictions)):
        folder = Path(place).expanduser()
        if options.tasks and (folder.suffix in (".json", ".csv") or folder.is_file()):
            raise ConfigError(f"with --tasks {flag} is a folder, not the file {place}")
        if place and options.data and not _is_folder(place):
            check_file(folder, flag)
        elif place or (options.tasks and flag == "--out"):
            check_writable(folder if place else Path("results"), flag)
    if options.data and not _is_folder(options.out):
        check_apart({"--out": options.out, "--predictions": options.predictions})
    cache = Path(options.cache).expanduser()
    # One that is there may hold all that is wanted: nothing is written then.
    if options.cache and not (cache / _VECTORS).is_dir():
        check_writable(cache, "--cache")


def _is_folder(place: str) -> bool:
    """A name without an ending is a folder's, unless a file is there."""
    path = Path(place).expanduser()
    new = bool(place) and not path.suffix and not os.path.lexists(path)
    return place.endswith(("/", os.sep)) or path.is_dir() or new


def _one(options: Evaluate, peers: "Peers", cache: "Cache") -> int:
    from diptych.cli.evaluate_show import show_result
    from diptych.evaluation import evaluate

    common = _common(options, peers, cache)
    model = _load(options, options.models[0], peers)
    result = evaluate(model, options.task, options.data, resize=options.resize, **common)
    if peers.is_main:
        written = _write(options, result)  # first: who reads stdout may be gone
        show_result(result)
        for path in written:
            say(path)
        if options.predictions and result.predictions is None:
            raise ConfigError(f"no predictions of {result.task}: {_PREDICTED}")
    return 0


def _write(options: Evaluate, result: "Result") -> list[Path]:
    """The files that were asked for, of what the result has. Raises OSError."""
    from diptych.evaluation import ResultKey
    from diptych.evaluation.suite import file_name
    from diptych.evaluation.tasks import TRAINED

    task = f"{result.task}/{options.data}" if result.task in TRAINED else options.data
    key = ResultKey(task, options.models[0], result.protocol["resize"])
    name = file_name(key, result.key)
    written = list[Path]()
    with listening() as interrupts, interrupts.held():  # they belong together
        if options.out:
            written.append(result.save(_file(options.out, name)))
        if options.predictions and result.predictions is not None:
            place = _file(options.predictions, f"{Path(name).stem}.csv")
            written.append(result.predictions.save(place))
    return written


def _file(place: str, name: str) -> Path:
    return Path(place).expanduser() / name if _is_folder(place) else Path(place).expanduser()


def _many(options: Evaluate, peers: "Peers", cache: "Cache") -> int:
    from diptych.cli.evaluate_show import show_progress, show_results
    from diptych.evaluation import Results, evaluate
    from diptych.evaluation.tasks import parse_tasks

    tasks, results = parse_tasks(options.tasks), Results()
    step = options.together or len(options.models)
    for start in range(0, len(options.models), step):
        names = options.models[start : start + step]
        encoders = _load_some(options, names, tasks, results, peers)
        if not encoders:
            continue
        found = evaluate(
            encoders,
            tasks,
            data_root=options.data_root,
            profile=options.profile,
            sizes=options.sizes,
            frames=options.frames,
            resize=options.resize,
            out=options.out or "results",
            predictions=options.predictions or None,
            on_result=show_progress if peers.is_main else lambda key, result: None,
            **_common(options, peers, cache),
        )
        results.update(found)
    if peers.is_main:
        show_results(results, options.tasks)
        if options.predictions:
            _say_without_predictions(results)
    return 1 if results.failures else 0


def _say_without_predictions(results: "Results") -> None:
    tasks = dict.fromkeys(key.task for key, result in results.items() if not result.calibration)
    if tasks:
        say(f"no predictions of {', '.join(tasks)}: {_PREDICTED}", error=True)


def _common(options: Evaluate, peers: "Peers", cache: "Cache") -> dict[str, Any]:
    """What is said alike of one dataset and of many."""
    return {
        "class_names": _class_names(options),
        "templates": options.templates,
        "image_key": options.image_key,
        "image_root": options.image_root,
        "caption_key": options.caption_key,
        "max_bad_share": options.max_bad_share,
        "shots": options.shots,
        "by": options.by,
        "batch_size": options.batch_size,
        "limit": options.limit,
        "maps": options.maps,
        "progress": peers.is_main,
        "cache": cache,
        "peers": peers,
    }


def _class_names(options: Evaluate) -> str | dict[str, str]:
    """A file for all tasks, or one of each. Raises ConfigError for a mixture, and for a task that
    isn't asked for."""
    words = options.class_names
    pairs = dict[str, str]()
    for word in words:
        task, sign, file = word.partition("=")
        if sign and not Path(word).exists():
            pairs[task] = file
    if not pairs:
        if len(words) > 1:
            raise ConfigError("--class-names is one file, or TASK=FILE for each task")
        return words[0] if words else ""
    if len(pairs) < len(words):
        raise ConfigError(f"--class-names {' '.join(words)}: say TASK=FILE for each task")
    asked = {options.data, *chain.from_iterable(task.split(",") for task in options.tasks)}
    if strange := [task for task in pairs if task not in asked]:
        raise ConfigError(f"--class-names {strange[0]}=…: no task is {strange[0]!r}")
    return pairs


def _load_some(
    options: Evaluate,
    names: Sequence[str],
    tasks: "Sequence[Task]",
    results: "Results",
    peers: "Peers",
) -> "list[Encoder]":
    """The models. One that can't be loaded fails on all tasks, and stops no other."""
    from diptych.distributed import FAILURES
    from diptych.evaluation import ResultKey

    found = []
    for name in names:
        try:
            found.append(_load(options, name, peers))
        except FAILURES as error:
            keys = [ResultKey(task.name, name, "") for task in tasks]
            results.failures |= dict.fromkeys(keys, str(error))
    return found


def _load(options: Evaluate, name: str, peers: "Peers") -> "Encoder":
    from diptych.distributed import together

    device = str(peers.device) if peers.size > 1 else None
    return together(peers, lambda: options.load(name, device=device))
