"""The checkpoints of a run: which there are, whether they are whole, which is the newest.

    checkpoints/step-00001000/
        model.safetensors     the weights, and
        model.json            what they are of: a native model, which `diptych.load` reads
        training.safetensors  the optimiser's moments, and what the exported model doesn't hold
        training.json         steps, samples, loss scale
        checksums.json        size and sha256 of each of these files

Whoever takes "the newest" of a run takes it by `newest`: going on and loading agree on it.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from torch import Tensor

from diptych.config.serialize import read_as
from diptych.errors import CheckpointError, ConfigError, DamagedError, DamageWarning
from diptych.weights import native
from diptych.weights.hub import SUFFIXES
from diptych.weights.mapped import read_safetensors, unreadable
from diptych.weights.read import read_json

TRAINING, PROGRESS, CHECKSUMS = "training.safetensors", "training.json", "checksums.json"
VERSION = 2
"""Of a checkpoint; the first had no checksums."""
MODEL, OBJECTIVE, MOMENTS, NUMBERS = "model.", "objective/", "optimizer/", "numbers/"
"""Names of tensors: the model's within the objective's; in `training.safetensors`, the objective's
(`objective/NAME`), its moments (`optimizer/NAME/KEY`), and plain numbers that an optimiser keeps
beside these (`numbers/NAME/KEY`)."""
_NAME = re.compile(r"step-(\d+)")
_TOLD = 3
"""Broken checkpoints in a sentence."""
_TRIES = 10
"""Checkpoints that may be deleted while they are read."""
PARTS = (native.WEIGHTS, native.META, TRAINING, PROGRESS)
"""Files that a checkpoint has at least."""
_WAIT = "has the run saved yet?"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What `training.json` says."""

    version: int = 1
    step: int
    """Optimiser steps taken."""
    samples: int | None = None
    """Pairs that they took; a checkpoint of an old version doesn't say."""
    steps: int = 0
    """Optimiser steps of the whole run; 0: it doesn't say."""
    order: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the order of the samples depends on, beside the seed."""
    groups: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Numbers of each group of parameters that the optimiser itself has changed."""
    scaler: dict[str, Any] = field(default_factory=dict[str, Any])
    """The state of the loss scale; empty without float16."""


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name starts with `prefix`, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def checkpoints(run: Path) -> list[Path]:
    """The folders of a run's checkpoints, oldest first, whole or not; other things beside them
    don't count. Raises CheckpointError if they can't be listed."""
    place = run / "checkpoints"
    try:
        named = [path for path in place.iterdir() if is_step(path)]
        return sorted((path for path in named if path.is_dir()), key=step_of)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(place, error) from error


def is_run(path: Path) -> bool:
    """Whether it is the folder of a run, and no checkpoint itself."""
    return (path / "checkpoints").is_dir() and not (path / native.META).is_file()


def is_step(path: Path) -> bool:
    """Whether it has the name of a checkpoint."""
    return _NAME.fullmatch(path.name) is not None


def step_of(folder: Path) -> int:
    """The step that a checkpoint's name says."""
    match = _NAME.fullmatch(folder.name)
    assert match
    return int(match[1])


def newest(run: Path, read: Callable[[Path], T], *, model_alone: bool = False) -> T:
    """What `read` gives of the newest whole checkpoint in the folder of a run. `model_alone`: where
    none is whole, of the newest whose model is.

    Warns (DamageWarning) of each that is broken, and says which is taken instead. One that a run in
    training deletes meanwhile isn't broken: its next is taken. Raises CheckpointError if there is
    none, and what `read` raises.
    """
    found, broken = _newest(run, read, check)
    if not found and broken and model_alone:
        found, _ = _newest(run, read, native.check)
    told = [f"{folder.name}: {reason}" for folder, reason in broken.items()]
    each = "; ".join(told[:_TOLD] + ["…"] * (len(told) > _TOLD))
    if not found:
        raise CheckpointError(
            f"{run} has no whole checkpoint ({each}); copy one again from where it is whole, or "
            "start another run"
            if broken
            else f"{run} has no checkpoint; {_without(run)}"
        )
    [(folder, result)] = found
    if broken:
        of = "its model is whole, and" if folder in broken else "instead of it"
        warnings.warn(
            f"{run} has broken checkpoints ({each}); {of} {folder.name} is taken",
            DamageWarning,
            stacklevel=2,
        )
    return result


def _without(run: Path) -> str:
    """What to do with a run without a checkpoint of ours."""
    place = run / "checkpoints"
    files = [
        each for each in (*place.glob("*"), *place.glob("*/*")) if each.name.endswith(SUFFIXES)
    ]
    others = sorted(file if file.parent == place else file.parent for file in files)
    others = [each for each in others if not each.name.startswith(".")]
    return f"another trainer's lie in it: name one, such as {others[0]}" if others else _WAIT


def _newest(
    run: Path, read: Callable[[Path], T], check: Callable[[Path], None]
) -> tuple[list[tuple[Path, T]], dict[Path, str]]:
    """The newest that passes `check` and what `read` gives of it, if there is one; why newer ones
    don't pass."""
    broken, deleted = dict[Path, str](), 0
    while left := [folder for folder in checkpoints(run) if folder not in broken]:
        folder = left[-1]
        try:
            check(folder)
            return [(folder, read(folder))], broken
        except (CheckpointError, OSError) as error:
            if not folder.is_dir():
                deleted += 1
                if deleted == _TRIES:
                    raise CheckpointError(
                        f"{run} deletes its checkpoints faster than they are read; keep more of "
                        "them (--save.keep)"
                    ) from error
            elif isinstance(error, DamagedError):
                broken[folder] = str(error)
            elif isinstance(error, OSError):
                raise unreadable(folder, error) from error
            else:
                raise
    return [], broken


def check(folder: Path) -> None:
    """Raises DamagedError unless a checkpoint is as it was written, CheckpointError if it can't be
    read. Of one of the first version, which has no checksums, all parts must be there and fit each
    other."""
    listed = (folder / CHECKSUMS).is_file()
    if listed:
        for name, known in _read_checksums(folder).items():
            _check_file(folder / name, known)
    progress = read_progress(folder)
    if progress.step != step_of(folder):
        raise DamagedError(f"{PROGRESS} is of step {progress.step}")
    if progress.version == VERSION and not listed:
        raise DamagedError(f"{CHECKSUMS} is missing")
    if not listed:
        _check_parts(folder)


def seems_whole(folder: Path) -> bool:
    """Whether all files of a checkpoint are there and have their sizes, which costs nothing to
    see."""
    try:
        if (folder / CHECKSUMS).is_file():
            known = _read_checksums(folder).items()
            return all((folder / name).stat().st_size == each.bytes for name, each in known)
        return all((folder / name).is_file() for name in PARTS)
    except (CheckpointError, OSError):
        return False


def read_progress(folder: Path) -> Progress:
    """What `training.json` says. Raises DamagedError if it isn't as it was written, CheckpointError
    if it can't be read or is too new."""
    values = read_json(folder / PROGRESS)
    version = values.get("version", 1)
    if isinstance(version, int) and version > VERSION:
        raise CheckpointError(
            f"{folder} has format version {version}; this Diptych reads {VERSION}: update it"
        )
    try:
        return read_as(Progress, values, PROGRESS)
    except ConfigError as error:
        raise DamagedError(f"{PROGRESS} isn't what was written: {error}") from error


def write_checksums(folder: Path) -> None:
    """Of all files in the folder of a checkpoint. sha256, as the weights have: nothing that was
    changed can pass, `sha256sum` checks it, and the processor hashes faster than disks write."""
    weights = read_json(folder / native.META)["weights"]  # which are hashed already
    known = {native.WEIGHTS: {name: weights[name] for name in ("bytes", "sha256")}}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in known:
            known[name] = {"bytes": path.stat().st_size, "sha256": native.sha256(path)}
    (folder / CHECKSUMS).write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class _File:
    """What `checksums.json` says of one."""

    bytes: int
    sha256: str


def _read_checksums(folder: Path) -> dict[str, _File]:
    values = read_json(folder / CHECKSUMS)
    try:
        known: dict[str, _File] = read_as(dict[str, _File], values, CHECKSUMS)
    except ConfigError as error:
        raise DamagedError(f"{CHECKSUMS} isn't what was written: {error}") from error
    if not known.keys() >= {*PARTS} or any(".." in PurePosixPath(name).parts for name in known):
        raise DamagedError(f"{CHECKSUMS} isn't what was written")
    return known


def _check_file(path: Path, known: _File) -> None:
    if not path.is_file():
        raise DamagedError(f"{path.name} is missing")
    if (size := path.stat().st_size) != known.bytes:
        raise DamagedError(f"{path.name} has {size} bytes instead of {known.bytes}")
    if native.sha256(path) != known.sha256:
        raise DamagedError(f"{path.name} isn't what was written: it has another sha256")


def _check_parts(folder: Path) -> None:
    """Each has its own form, and each moment belongs to a weight."""
    state, _ = native.read(folder)
    training = read_safetensors(folder / TRAINING).shapes
    weights = {f"{MODEL}{name}": each.shape for name, each in state.shapes.items()}
    weights |= {
        name.removeprefix(OBJECTIVE): each.shape
        for name, each in training.items()
        if name.startswith(OBJECTIVE)
    }
    keys = dict[str, set[str]]()
    for name, each in training.items():
        parameter, _, key = name.removeprefix(MOMENTS).rpartition("/")
        if not name.startswith(MOMENTS):
            continue
        if each.shape != weights.get(parameter) and each.numel() != 1:
            raise DamagedError(f"{TRAINING}: {name} has the shape {list(each.shape)}")
        keys.setdefault(parameter, set()).add(key)
    for parameter, found in keys.items():
        if lacking := set[str]().union(*keys.values()) - found:
            raise DamagedError(f"{TRAINING} has no {min(lacking)} of {parameter}")
