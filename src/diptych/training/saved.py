"""run.json, as this Diptych writes it or an older one did."""

from pathlib import Path
from typing import Any, cast

from diptych.bounded import parse_json, read_text
from diptych.checkpoints.steps import checkpoints
from diptych.components import import_object
from diptych.config import Run
from diptych.config.serialize import from_dict
from diptych.errors import ConfigError
from diptych.families import families
from diptych.weights.native import META

_AGAIN = "go on with the command that the run was started with, and --resume-if-any"
_KNOBS = ("patch_dropout", "stochastic_depth")
"""Once fields of towers' configurations; options of a run since."""


def load_run(out: Path) -> Run:
    """The Run of a training folder, as it was last begun or gone on with. Raises ConfigError if
    there is none."""
    try:
        text = read_text(out / "run.json")
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = f"; {_AGAIN}" if checkpoints(out) else ""
        raise ConfigError(f"{out} is not the folder of a run: it has no run.json{hint}") from error
    except OSError as error:
        raise ConfigError(f"{out / 'run.json'} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(out, error) from error
    return read_run(text, out)


def read_run(text: str, out: Path) -> Run:
    """The Run that the `run.json` of the folder `out` describes. Raises ConfigError for one that
    isn't JSON or doesn't fit."""
    try:
        values = parse_json(text)
    except ValueError as error:
        raise _damaged(out, error if text.strip() else "it is empty") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{out / 'run.json'} is no saved Run: it holds a {type(values).__name__}")
    run = cast(dict[str, Any], values)
    _upgrade(run, out)
    return from_dict(Run, run)


def _damaged(out: Path, reason: object) -> ConfigError:
    hint = f"; copy it again, or delete it and {_AGAIN}" if checkpoints(out) else ""
    return ConfigError(f"{out / 'run.json'} is no saved Run: {reason}{hint}")


def _upgrade(values: dict[str, Any], out: Path) -> None:
    """In place: what an older Diptych wrote, as today's would."""
    if isinstance(values.get("objective"), dict):
        for family in families():
            if family.upgrade:
                values["objective"] = import_object(family.upgrade)(values["objective"])
    model = values.get("model")
    if isinstance(model, dict):
        _upgrade_model(cast(dict[str, Any], model), out)


def _upgrade_model(model: dict[str, Any], out: Path) -> None:
    custom = model.get("custom")
    if custom:
        model["name"] = ""  # which was ignored then, and is an error now
    config = custom if isinstance(custom, dict) else _newest_config(out)
    for side in ("image", "text"):
        options, tower = model.get(side), config.get(side)
        if isinstance(options, dict) and isinstance(tower, dict):
            moved = {name: tower[name] for name in _KNOBS if name in tower and name not in options}
            options.update(moved)


def _newest_config(out: Path) -> dict[str, Any]:
    """The model's configuration as the newest checkpoint has it; empty if there is none."""
    for folder in reversed(checkpoints(out)):
        try:
            config = parse_json(read_text(folder / META))["config"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(config, dict):
            return config
    return {}
