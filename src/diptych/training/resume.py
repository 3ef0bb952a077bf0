"""Going on with a run: from which checkpoint, with which changes, and the record of them."""

import datetime
import itertools
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.checkpoints.steps import check, checkpoints, is_step, newest, step_of
from diptych.config import Run
from diptych.config.serialize import difference, to_json
from diptych.durable import append, sync, write_file
from diptych.errors import ConfigError, DamagedError
from diptych.optim import group_records
from diptych.training.position import is_another
from diptych.training.state import TrainingState

FIXED = (
    "model.name",
    "model.custom",
    "model.init",
    "model.image.init",
    "model.text.init",
    "model.image.size",
    "model.text.context",
    "seed",
)
"""What a run keeps: its checkpoint is of that model, and its place is one in that order."""
_ELSEWHERE = ("out", "recipe")
"""Where the run lies and what it was called: moving it changes nothing."""
Changes = Mapping[str, tuple[Any, Any]]
"""Dotted path -> (was, is)."""


def checkpoint_of(out: Path, resume: bool | str | os.PathLike[str]) -> Path | None:
    """The checkpoint that a run goes on from: the newest that is whole, or the one that `resume`
    names; None: there is none. Raises ConfigError for a folder that is no checkpoint of the run,
    CheckpointError for a broken one, and if all are."""
    found = checkpoints(out)
    if isinstance(resume, bool):
        return newest(out, lambda folder: folder) if resume and found else None
    for folder in found:
        if folder.resolve() == Path(resume).resolve():
            return _whole(folder, out)
    has = ", ".join(folder.name for folder in found) or "none"
    raise ConfigError(f"{resume} is no checkpoint of the run {out}; it has {has}")


def _whole(folder: Path, out: Path) -> Path:
    try:
        check(folder)
    except DamagedError as error:
        raise DamagedError(
            f"the checkpoint {folder} is broken: {error}; go on from the newest that is whole: "
            f"diptych train --resume {out}"
        ) from error
    return folder


def changes(old: Run, new: Run) -> Changes:
    """What differs from the run as it was. Raises ConfigError for what can't change."""
    found = {p: pair for p, pair in difference(old, new).items() if p not in _ELSEWHERE}
    for path, (was, now) in found.items():
        if any(path == fixed or path.startswith(f"{fixed}.") for fixed in FIXED):
            _refuse(path, was, now, new)
    was, now = type(old.objective), type(new.objective)
    if was is not now:
        _refuse("objective", was.__name__, now.__name__, new)
    return found


def _refuse(path: str, was: object, now: object, run: Run) -> None:
    raise ConfigError(
        f"{path} can't change when a run goes on ({_said(was)} -> {_said(now)}); start another run "
        f"from its weights: --model.init {run.out}"
    )


def check_kept(was: Mapping[str, Any], now: Mapping[str, Any], run: Run) -> None:
    """Raises ConfigError where a run would go on with other ids than it had. `was` and `now` are
    the order of the samples."""
    if was.get("keep") == now.get("keep"):
        return
    if "keep" not in was:
        what = f"--data.keep {run.data.keep} leaves samples out, and the run had all"
    elif "keep" not in now:
        what = "--data.keep is empty, and the run had the samples of a file of ids"
    else:
        what = f"--data.keep {run.data.keep} ({run.data.keep_field}) has other ids than the run had"
    raise ConfigError(
        f"{what}: go on with the same, or start another run from its weights: --model.init "
        f"{run.out}"
    )


def sentences(
    changed: Changes, state: TrainingState, steps: int, order: Mapping[str, Any]
) -> list[str]:
    """What the user should know: what was changed, and what follows from it. `steps` and `order`
    are the checkpoint's."""
    said = list[str]()
    if changed:
        each = (f"{path} {_said(was)} -> {_said(now)}" for path, (was, now) in changed.items())
        said.append(f"{', '.join(each)} from step {state.step}")
    if steps and steps != state.steps:
        said.append(
            f"the run has {state.steps} steps in place of {steps}: the schedule of the learning "
            "rate is laid over all of them, so the rate may jump"
        )
    if order and is_another(order, state.order):
        said.append(
            f"the data isn't what it was before step {state.step}: it is in another order, so "
            "samples of this epoch may come twice or not at all"
        )
    if "optim.name" in changed:
        said.append("the optimiser is another one: its moments start anew")
    return said


def _said(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value)) or "none"
    return "none" if value in ("", None) else str(value)


def record(run: Run, state: TrainingState, changed: Changes, processes: int) -> None:
    """Add a line to the run's `history.jsonl`, and make its `run.json`, and `groups.json` (which
    parameters have which rate and decay), what they are now."""
    out = Path(run.out)
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": state.step,
        "samples": state.samples,
        "processes": processes,
        "changes": {path: list(pair) for path, pair in changed.items()},
    }
    try:
        append(out / "history.jsonl", json.dumps(line) + "\n")
        write_file(out / "run.json", lambda part: part.write_text(to_json(run)))
        groups = json.dumps(group_records(state.groups, run.optim.lr), indent=2)
        write_file(out / "groups.json", lambda part: part.write_text(groups + "\n"))
    except OSError as error:
        raise ConfigError(
            f"can't write to the run's folder {out}: {error.strerror}; choose another --out"
        ) from error


def set_aside(out: Path, step: int) -> list[str]:
    """Move what is named as a checkpoint after `step`, and a copy of the metrics, out of the way of
    a run that goes on from there; a sentence where there is any."""
    named = [path for path in (out / "checkpoints").glob("step-*") if is_step(path)]
    newer = sorted((path for path in named if step_of(path) > step), key=step_of)
    if not newer:
        return []
    places = (out / f"set-aside-{number}" for number in itertools.count(1))
    place = next(place for place in places if not place.exists())
    place.mkdir()
    if (out / "metrics.jsonl").exists():
        shutil.copy(out / "metrics.jsonl", place)
    for path in newer:
        path.rename(place / path.name)
    sync(place)
    sync(out / "checkpoints")
    return [f"what came after step {step} is set aside in {place}"]
