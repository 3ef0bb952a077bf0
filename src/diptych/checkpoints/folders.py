"""Which file of a folder holds the weights."""

import re
from pathlib import Path

from diptych.errors import CheckpointError, MissingError
from diptych.families import layouts
from diptych.weights import deepspeed
from diptych.weights.hub import SUFFIXES

_BESIDE = ("optimizer", "scheduler", "scaler", "training_args", "rng_state", "random_states")
"""How names of files begin in which trainers keep all but the weights."""
_SHARED_OUT, _SHARE = ".metadata", ".distcp"
"""Of torch's distributed checkpoints: their index, and how a process's part ends."""
_SHARD = re.compile(r"-\d+-of-(\d+)\.(safetensors|bin)$")
_TOLD = 3


def weight_files() -> list[str]:
    """Names that weights have in folders, the preferred first."""
    found: list[str] = []
    for layout in layouts():
        found += layout.weight_files
    return list(dict.fromkeys(found))


def weight_file(folder: Path) -> Path:
    """The file with the weights. Raises CheckpointError, saying what to name, where there is none,
    or several of which none has a usual name."""
    if merged := deepspeed.weight_file(folder):
        return merged
    preferred = weight_files()
    files = [folder / name for name in preferred if (folder / name).is_file()] or _files(folder)
    if not files:
        raise _nothing(folder)
    if len(files) > 1 and _SHARD.search(files[0].name):
        raise CheckpointError(
            f"{folder} holds shards and not their index (….index.json); copy it beside them"
        )
    if len(files) > 1 and files[0].name not in preferred:
        raise CheckpointError(
            f"{folder} holds {len(files)} weight files; name one of them, such as {files[0].name}"
        )
    return files[0]


def _files(folder: Path) -> list[Path]:
    """Weights under any name."""
    found = (file for file in folder.iterdir() if file.name.endswith(SUFFIXES) and file.is_file())
    return sorted(file for file in found if not file.name.startswith(_BESIDE))


def _nothing(folder: Path) -> CheckpointError:
    """What to do with a folder that has no weights itself; a MissingError where none are in it."""
    if (folder / _SHARED_OUT).is_file():
        return CheckpointError(
            f"{folder} is a distributed checkpoint of torch's, whose index may run anything: where "
            "you trust it, make a file of it by `python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pt`"
        )
    # Of a cache of the hub's: snapshots/COMMIT.
    inner = _with_weights(folder, "*") or _with_weights(folder, "*/*")
    if not inner:
        return MissingError(f"{folder} holds no weights and is no run with a checkpoint")
    more = ", …" if len(inner) > _TOLD else ""
    return CheckpointError(
        f"{folder} holds no weights itself, but folders with some "
        f"({', '.join(inner[:_TOLD])}{more}); name one of them: {folder / inner[-1]}"
    )


def _with_weights(folder: Path, pattern: str) -> list[str]:
    found: list[str] = []
    for child in sorted(folder.glob(pattern)):
        if child.is_dir() and (_files(child) or (child / _SHARED_OUT).is_file()):
            found.append(str(child.relative_to(folder)))
    return found


def check_whole(file: Path) -> None:
    """Raises CheckpointError for one shard of several, by its name."""
    if file.suffix == _SHARE:
        raise CheckpointError(
            f"{file} is one part of a distributed checkpoint of torch's; name its folder"
        )
    if (shard := _SHARD.search(file.name)) and shard[1].strip("0") != "1":
        raise CheckpointError(
            f"{file} is one of {int(shard[1])} shards of a model; name its folder, or the index "
            "(….index.json) beside it"
        )
