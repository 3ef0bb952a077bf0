"""What `diptych evaluate` refuses: flags that nothing of what was asked for would use."""

from collections.abc import Iterable, Sequence
from dataclasses import fields

from diptych.cli.options import Compute
from diptych.errors import ConfigError

_WORDS = ("class_names", "templates")
_OF_OWN_DATA = (*_WORDS, "image_key", "image_root", "caption_key")
_OF_KNOWN_SETS = ("data_root", "profile", "sizes")
_SHOWN = 3


def check_used(options: Compute, words: Sequence[str], data: str, kind: str) -> None:
    """Raises ConfigError for a flag that would be ignored, of options that ask for the tasks
    `words`, or for `data` to be measured as `kind`."""
    from diptych.datasets import EvaluationSet
    from diptych.evaluation.tasks import parse_tasks

    tasks = parse_tasks(words) if words else ()
    known = [task.name for task in tasks if isinstance(task.data, EvaluationSet)]
    kinds = {task.kind for task in tasks} or {kind}
    if "fewshot" not in kinds:
        _refuse(options, ("shots",), "it is for fewshot")
    if data:
        _refuse(options, (*_OF_KNOWN_SETS, "together"), "it is for --tasks")
        if kind == "retrieval":
            _refuse(options, _WORDS, "retrieval takes the data's captions")
    else:
        _refuse(options, ("task",), "it is for --data")
    if kinds <= {"linear", "fewshot"}:
        _refuse(options, ("templates",), "classifiers that are trained have no captions")
    if kinds <= {"linear", "fewshot", "retrieval"}:
        _refuse(options, ("maps",), "heat maps are of zero-shot classification's mistakes")
    if known and len(known) == len(tasks):
        those = ", ".join([*known[:_SHOWN], *["…"] * (len(known) > _SHOWN)])
        why = f"class names, templates and layout of {those} are known (--profile says whose)"
        _refuse(options, _OF_OWN_DATA, f"{why}; it is for data of your own")
    if tasks and not known:
        _refuse(options, _OF_KNOWN_SETS, "data of your own has none; it is for known datasets")


def _refuse(options: Compute, names: Iterable[str], why: str) -> None:
    defaults = {field.name: field.default for field in fields(options)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            raise ConfigError(f"--{name.replace('_', '-')} would be ignored: {why}")
