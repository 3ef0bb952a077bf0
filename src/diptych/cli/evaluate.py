"""diptych evaluate MODEL... --tasks imagenet1k,vtab+,linear/cifar100 --data-root DIR --out
results/"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.cli.show import show
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from diptych.encoder import Cache
    from diptych.evaluation import Result

_CLASSES_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Evaluate(Compute):
    """Measure models: on the sets that the field knows, or on your own.

    diptych evaluate MODEL... --tasks imagenet1k,vtab+,retrieval,linear/cifar100 --data-root DIR
    --out results/ diptych evaluate --list diptych evaluate MODEL --data 'test/{00..09}.tar'
    --class-names names.txt --out result.json

    The first form writes a JSON file for each model and task; stopped, the same command goes on
    where it stopped. It runs under torchrun as well: the processes share the pictures."""

    models: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL...")] = ()
    """Runs, checkpoints, hf-hub:org/name, or names with published weights."""
    tasks: tuple[str, ...] = ()
    """Sets, groups (vtab+, eva27, retrieval), patterns (cifar*), linear/SET, fewshot/SET; or paths
    of your own sets."""
    data_root: str = "."
    """Folder in which the sets lie."""
    profile: str = "diptych"
    """Whose conventions: diptych, eva-clip-18b, openai, clip-benchmark, declip or vtab."""
    resize: Literal["", "crop", "squash", "both"] = ""
    """How pictures become squares; by default as each model was trained. both: a result each."""
    sizes: Literal["exact", "warn"] = "exact"
    """Whether a set with another number of samples than the published one fails, or is remarked in
    the result."""
    data: str = ""
    """One set of your own: a folder with a sub-folder per class, a table (.csv, .tsv, .parquet,
    .jsonl) or shards."""
    task: Literal["zero-shot", "retrieval"] = "zero-shot"
    """Of --data: zero-shot needs labels, retrieval needs captions."""
    class_names: str = ""
    """Own sets: a text file, one name a line, in class order; a folder can do without."""
    templates: tuple[str, ...] = ("simple",)
    """Own sets: captions of a class: a set (name, simple, openai-7), or templates such as 'a photo
    of a {}.'."""
    by: Literal["vectors", "tokens", "tokens-as-published"] = "vectors"
    """Of --data: zero-shot by whole vectors, or token by token (FILIP): without padding, or as
    DeCLIP published it."""
    limit: int = 0
    """Use the first so many samples of each split; 0: all."""
    cache: str = "~/.cache/diptych"
    """Folder for vectors, so that nothing is encoded twice; empty: keep none."""
    together: int = 0
    """Models that are in memory at a time; they share the decoding of pictures. 0: all of them."""
    list: bool = False
    """Show the sets and groups that are known: classes, size, metric, how to get them."""
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
            "say either --tasks, or --data with one set of your own; `diptych evaluate --list` shows sets"
        )
    return _one(options) if options.data else _suite(options)


def _one(options: Evaluate) -> int:
    model, *more = options.models
    if more or options.resize == "both":
        raise ConfigError(
            f"--data is for one model and one way to resize; for more: --tasks {options.data}"
        )
    result = _by_vectors(options, model) if options.by == "vectors" else _by_tokens(options, model)
    _print_tables(result)
    if options.out:
        print(result.save(options.out))
    return 0


def _by_vectors(options: Evaluate, model: str) -> "Result":
    from diptych.evaluation import evaluate

    return evaluate(
        options.load(model),
        options.task,
        options.data,
        class_names=options.class_names or (),
        templates=_templates(options),
        resize=options.resize,
        batch_size=options.batch_size,
        limit=options.limit,
        progress=True,
        cache=_cache(options),
    )


def _by_tokens(options: Evaluate, model: str) -> "Result":
    from diptych.config import DataConfig
    from diptych.evaluation import evaluate_tokens

    if options.task != "zero-shot":
        raise ConfigError(f"--by {options.by} is for zero-shot, not for {options.task}")
    return evaluate_tokens(
        options.load(model),
        DataConfig(path=options.data, class_names=options.class_names),
        templates=_templates(options),
        mask_padding=options.by == "tokens",
        batch_size=options.batch_size,
        limit=options.limit,
    )


def _suite(options: Evaluate) -> int:
    from diptych.cli import evaluate_suite
    from diptych.distributed import connect
    from diptych.evaluation.measure import Engine
    from diptych.evaluation.tasks import Requests, expand

    requests = Requests(
        data_root=options.data_root,
        profile=options.profile,
        sizes=options.sizes,
        class_names=options.class_names,
        templates=_templates(options),
    )
    tasks = expand(options.tasks)
    with connect((options.device or "").partition(":")[0]) as peers:
        engine = Engine(
            cache=_cache(options),
            batch_size=options.batch_size,
            limit=options.limit,
            progress=peers.is_main,
            peers=peers,
        )
        summary = evaluate_suite.measure(options, tasks, requests, engine)
        if peers.is_main:
            evaluate_suite.show_summary(summary)
        for path in engine.cache.damaged:
            print(f"damaged, made again: {path}", file=sys.stderr)
    return 1 if summary.failures else 0


def _cache(options: Evaluate) -> "Cache":
    from diptych.encoder import Cache

    return Cache(Path(options.cache).expanduser() / "vectors" if options.cache else None)


def _templates(options: Evaluate) -> list[str]:
    from diptych.datasets import templates

    return [template for choice in options.templates for template in templates(choice)]


def _print_tables(result: "Result") -> None:
    from rich.table import Table
    from rich.text import Text

    figures = Table(result.task, "", box=None)
    for name, value in result.metrics.items():
        if name != "top5" or len(result.class_names) > 5:
            figures.add_row(name, f"{value:.2%}")
    figures.add_row("pictures", str(result.data["used"]))
    show(figures)
    if result.class_names:
        rows = zip(result.class_names, result.per_class, map(sum, result.confusion))
        ordered = sorted((row for row in rows if row[1] is not None), key=lambda row: row[1] or 0)
        classes = Table("class", "right", "pictures", box=None)
        for name, share, count in ordered[:_CLASSES_SHOWN]:
            classes.add_row(Text(name), f"{share:.1%}", str(count))
        show(classes)
        if len(ordered) > _CLASSES_SHOWN:
            print(f"the {_CLASSES_SHOWN} hardest of {len(ordered)} classes")
    for bad in result.data["unusable_samples"]:
        print(f"left out: {bad['file']} {bad['key']}: {bad['reason']}", file=sys.stderr)
