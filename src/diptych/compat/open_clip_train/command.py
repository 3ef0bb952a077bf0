"""The `diptych train` command of a Run."""

import json
import shlex
from dataclasses import fields, is_dataclass, replace
from typing import Any

from diptych import recipes
from diptych.config import Run
from diptych.config.serialize import to_dict

_MODEL = "model.json"
_KEPT = ("recipe", "custom")
"""Fields that no flag sets."""


def words_of(run: Run, recipe: str, model: str = "") -> list[str]:
    """What stands behind `diptych train` for `run`, said by its differences from a recipe; `model`
    is the file that describes the run's own model, if it has one.

    >>> from dataclasses import replace
    >>> from diptych import recipes
    >>> from diptych.compat.open_clip_train.command import words_of
    >>> words_of(replace(recipes.get("clip-vit-b-32"), seed=3), "clip-vit-b-32")
    ['clip-vit-b-32', '--seed', '3']
    """
    base = recipes.get(recipe)
    if run.steps:  # which are said, and whose flag takes the place of the recipe's epochs
        base = replace(base, steps=run.steps + 1, epochs=0.0)
    words = [recipe, *(["--model.name", model] if model else [])]
    if type(run.objective) is not type(base.objective):
        words += ["--objective", type(run.objective).alias]
    return words + _differences(base, run, "--")


def script_of(run: Run, recipe: str, resume: bool, processes: int) -> list[str]:
    """Lines for a shell: the command, and before it the file of a model that has no name."""
    lines, model = list[str](), ""
    if run.model.custom is not None:
        model = f"{run.out.rstrip('/')}.{_MODEL}"
        described = {"format": "diptych", "config": to_dict(run.model.custom)}
        lines = [
            f"mkdir -p {shlex.quote(model.rpartition('/')[0] or '.')}",
            f"cat > {shlex.quote(model)} <<'EOF'",
            json.dumps(described),
            "EOF",
        ]
    words = words_of(run, recipe, model) + (["--resume-if-any"] if resume else [])
    many = ["torchrun", "--nproc-per-node", str(processes), "-m"] if processes > 1 else []
    return [*lines, shlex.join([*many, "diptych", "train", *words])]


def _differences(old: Any, new: Any, prefix: str) -> list[str]:
    """Flags for what of `new` is another than in `old`."""
    words = list[str]()
    old = old if type(old) is type(new) else type(new)()
    for field in fields(new):
        was, value = getattr(old, field.name), getattr(new, field.name)
        flag = prefix + field.name.replace("_", "-")
        if value == was or field.name in _KEPT:
            continue
        if is_dataclass(value):
            words += _differences(was, value, f"{flag}.")
        elif isinstance(value, bool):
            words.append(flag if value else f"{prefix}no-{field.name.replace('_', '-')}")
        elif value != "":
            words += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return words
