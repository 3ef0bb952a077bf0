"""diptych evaluate MODEL... --tasks imagenet1k,vtab+,linear/cifar100 --data-root DIR --out
results/"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from diptych.distributed import Peers
    from diptych.encoder import Cache, Encoder
    from diptych.evaluation import Results
    from diptych.evaluation.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Evaluate(Compute):
    """Measure models: on the sets that the field knows, or on your own.

    diptych evaluate MODEL... --tasks imagenet1k,vtab+,retrieval,linear/cifar100 --data-root DIR
    --out results/ diptych evaluate --list diptych evaluate MODEL --data 'test/{00..09}.tar'
    --class-names names.txt --out result.json

    The first form writes a JSON file for each model and task; stopped, the same command goes on
    where it stopped. It runs under torchrun as well: the processes share the pictures.
    """

    models: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL...")] = ()
    """Runs, checkpoints, hf-hub:org/name, or names with published weights."""
    tasks: tuple[str, ...] = ()
    """Datasets, groups (vtab+, eva27, retrieval), patterns (cifar*), linear/SET, fewshot/SET;
    package.module:NAME of an evaluation set of your own; or paths of your own data."""
    data_root: str = "."
    """Folder in which the datasets lie."""
    profile: str = "diptych"
    """Whose conventions: diptych, eva-clip-18b, openai, clip-benchmark, declip or vtab."""
    resize: Literal["", "crop", "squash", "both"] = ""
    """How pictures become squares; by default as each model was trained. both: a result each."""
    sizes: Literal["exact", "warn"] = "exact"
    """Whether a dataset with another number of samples than the published one fails, or is remarked
    in the result."""
    data: str = ""
    """One dataset of your own: a folder with a sub-folder per class, a table (.csv, .tsv, .parquet,
    .jsonl) or shards."""
    task: Literal["zero-shot", "retrieval"] = "zero-shot"
    """Of --data: zero-shot needs labels, retrieval needs captions."""
    class_names: str = ""
    """Own data: a text file, one name a line, in class order; a folder can do without."""
    templates: tuple[str, ...] = ("simple",)
    """Own data: captions of a class: a set (name, simple, openai-7), or templates such as 'a photo
    of a {}.'."""
    by: Literal["vectors", "tokens", "tokens-as-published"] = "vectors"
    """Zero-shot by whole vectors, or token by token (FILIP): without padding, or as DeCLIP
    published it."""
    limit: int = 0
    """Use the first so many samples of each split; 0: all."""
    cache: str = "~/.cache/diptych"
    """Folder for vectors, so that nothing is encoded twice; empty: keep none."""
    together: int = 0
    """Models that are in memory at a time; they share the decoding of pictures. 0: all of them."""
    list: bool = False
    """Show the datasets and groups that are known: classes, size, metric, how to get them."""
    out: str = ""
    """--tasks: the folder of the results (by default results). --data: write the result to this
    JSON file."""


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
            "say either --tasks, or --data with one set of your own; "
            "`diptych evaluate --list` shows sets"
        )
    if options.data and (len(options.models) > 1 or options.resize == "both"):
        raise ConfigError(
            f"--data is for one model and one way to resize; for more: --tasks {options.data}"
        )
    from diptych.distributed import connect
    from diptych.encoder import Cache

    with connect((options.device or "").partition(":")[0]) as peers:
        cache = Cache(Path(options.cache).expanduser() / "vectors" if options.cache else None)
        code = (_one if options.data else _many)(options, peers, cache)
        for path in cache.corrupt:
            print(f"corrupt, made again: {path}", file=sys.stderr)
    return code


def _one(options: Evaluate, peers: "Peers", cache: "Cache") -> int:
    from diptych.cli.evaluate_show import show_result
    from diptych.evaluation import evaluate

    result = evaluate(
        _load(options, options.models[0], peers),
        options.task,
        options.data,
        resize=options.resize,
        **_common(options, peers, cache),
    )
    if peers.is_main:
        show_result(result)
        if options.out:
            print(result.save(options.out))
    return 0


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
            resize=options.resize,
            out=options.out or "results",
            on_result=show_progress if peers.is_main else lambda key, result: None,
            **_common(options, peers, cache),
        )
        results.update(found)
    if peers.is_main:
        show_results(results, options.tasks)
    return 1 if results.failures else 0


def _common(options: Evaluate, peers: "Peers", cache: "Cache") -> dict[str, Any]:
    """What is said alike of one dataset and of many."""
    from diptych.datasets import templates

    chosen = [templates(choice) for choice in options.templates]
    return {
        "class_names": options.class_names or (),
        "templates": list(chain.from_iterable(chosen)),
        "by": options.by,
        "batch_size": options.batch_size,
        "limit": options.limit,
        "progress": peers.is_main,
        "cache": cache,
        "peers": peers,
    }


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
