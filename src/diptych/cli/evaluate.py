"""diptych evaluate MODEL --data PATH --class-names FILE --out result.json"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.cli.show import show

if TYPE_CHECKING:
    from diptych.evaluation import Result

_CLASSES_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Evaluate(Compute):
    """Zero-shot accuracy or retrieval on a folder of class folders, a table or shards.

    diptych evaluate MODEL --data 'test/{00..09}.tar' --class-names names.txt --out result.json"""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A run, a checkpoint, hf-hub:org/name, or a name with published weights."""
    data: str
    """A folder with a sub-folder per class, a table (.csv, .tsv, .parquet, .jsonl) or shards (.tar)."""
    task: Literal["zero-shot", "retrieval"] = "zero-shot"
    """zero-shot needs labels, retrieval needs captions."""
    class_names: str = ""
    """A text file, one name a line, in class order; a folder can do without."""
    templates: tuple[str, ...] = ("simple",)
    """Captions of a class: a set (name, simple, openai-7), or templates such as 'a photo of a {}.'."""
    by: Literal["vectors", "tokens", "tokens-as-published"] = "vectors"
    """Zero-shot by whole vectors, or token by token (FILIP): without padding, or as DeCLIP published it."""
    limit: int = 0
    """Use the first so many samples; 0: all."""
    out: str = ""
    """Write the result, with all that it depends on, to this JSON file."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Evaluate, "evaluate", arguments)

    result = _by_vectors(options) if options.by == "vectors" else _by_tokens(options)
    _print_tables(result)
    if options.out:
        print(result.save(options.out))


def _by_vectors(options: Evaluate) -> "Result":
    from diptych.evaluation import evaluate

    return evaluate(
        options.load(options.model),
        options.task,
        options.data,
        class_names=options.class_names or (),
        templates=_templates(options),
        batch_size=options.batch_size,
        limit=options.limit,
        progress=True,
    )


def _by_tokens(options: Evaluate) -> "Result":
    from diptych.config import DataConfig
    from diptych.errors import ConfigError
    from diptych.evaluation import evaluate_tokens

    if options.task != "zero-shot":
        raise ConfigError(f"--by {options.by} is for zero-shot, not for {options.task}")
    return evaluate_tokens(
        options.load(options.model),
        DataConfig(path=options.data, class_names=options.class_names),
        templates=_templates(options),
        mask_padding=options.by == "tokens",
        batch_size=options.batch_size,
        limit=options.limit,
    )


def _templates(options: Evaluate) -> list[str]:
    from diptych.evaluation import templates

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
