"""The state of a training loop's task as a dict, and from a file."""

from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from diptych.compat.task.base_task import TrainingTask
from diptych.compat.task.sharding import load_whole_optimizer, whole_optimizer
from diptych.errors import CheckpointError, first_line


def save_checkpoint(
    task: TrainingTask,
    optimizer: Optimizer,
    epoch: int,
    scaler: Any = None,
    name: str | None = None,
    **counters: int,
) -> dict[str, Any]:
    """What goes on from here, for `torch.save`: weights, their average where there is one, and the
    state of the optimiser and of the scaler. Where they are in shards, every process calls it, and
    all get whole tensors. `counters`: `global_step`, `samples_seen`."""
    found = {"epoch": epoch, "name": name, "optimizer": whole_optimizer(optimizer), **counters}
    found |= task.state_dict()
    return found if scaler is None else found | {"scaler": scaler.state_dict()}


def load_checkpoint(
    task: TrainingTask,
    path: str | Path,
    optimizer: Optimizer | None = None,
    scaler: Any = None,
    is_distributed: bool = False,
    metadata: dict[str, int] | None = None,
) -> int:
    """Go on from a file: of `save_checkpoint`'s dict, also of a model that was saved in DDP, or of
    weights alone. Gives the epoch, 0 for weights alone; `metadata` takes the counters.

    Nothing in the file is executed. Raises CheckpointError for one that can't be read.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} can't be read: {first_line(error)}") from error
    if "epoch" not in found:
        task.load_state_dict({"state_dict": found})
        return 0
    weights = {key.removeprefix("module."): value for key, value in found["state_dict"].items()}
    task.load_state_dict(found | {"state_dict": weights})
    if optimizer is not None and "optimizer" in found:
        load_whole_optimizer(optimizer, found["optimizer"])
    if scaler is not None and "scaler" in found:
        scaler.load_state_dict(found["scaler"])
    if metadata is not None:
        metadata |= {key: found[key] for key in ("global_step", "samples_seen") if key in found}
    return found["epoch"]
