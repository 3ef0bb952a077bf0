"""What a training loop over a task carries on from epoch to epoch (open_clip's main branch)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diptych.compat.task.base_task import TrainingTask


@dataclass
class TrainState:
    """A task, what trains it, and where the training is.

    >>> from diptych import compat
    >>> from diptych.compat.open_clip_train.train import TrainState
    >>> task = compat.CLIPTask(compat.create_model("tiny", load_weights=False))
    >>> TrainState(task, epoch=3).global_step
    0
    """

    task: TrainingTask
    optimizer: Any = None
    scaler: Any = None
    scheduler: Callable[[int], Any] | None = None
    epoch: int = 0
    global_step: int = 0
    """Steps that were taken, over all epochs."""
    samples_seen: int = 0
    """In these steps, by all processes."""


def restore_train_state_counters(
    state: TrainState, metadata: Mapping[str, int] | None, data: Mapping[str, Any], args: Any
) -> None:
    """Where a training goes on: what `load_checkpoint` put into `metadata`, else what the epochs
    before `state.epoch` have of `data["train"]`."""
    said = metadata or {}
    state.global_step = state.samples_seen = 0
    if state.epoch > 0 and "train" in data:
        loader = data["train"].dataloader
        state.global_step = loader.num_batches // args.accum_freq * state.epoch
        state.samples_seen = loader.num_samples * state.epoch
    state.global_step = int(said.get("global_step", state.global_step))
    state.samples_seen = int(said.get("samples_seen", state.samples_seen))
