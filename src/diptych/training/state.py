"""The state of a training run and its checkpoints: a resumed run equals the uninterrupted one bit
for bit.

What a checkpoint is made of stands in `diptych.checkpoints.steps`. No generator states: all
randomness of a step is a function of (seed, step).
"""

import contextlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from diptych.checkpoints.steps import (
    MODEL,
    MOMENTS,
    OBJECTIVE,
    PROGRESS,
    TRAINING,
    VERSION,
    Progress,
    checkpoints,
    read_progress,
    seems_whole,
    step_of,
    write_checksums,
)
from diptych.durable import new_folder, remove
from diptych.errors import CheckpointError, TrainingError
from diptych.inputs import Tokenizer
from diptych.models import Clip
from diptych.objectives import Objective
from diptych.optim import Group
from diptych.weights.native import WEIGHTS, save_model


@dataclass(kw_only=True)
class TrainingState:
    """Everything that changes while training."""

    objective: Objective
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    """The moving average of the model's weights, if the run keeps one."""
    groups: tuple[Group, ...] = ()
    """How the optimiser treats which parameters."""
    step: int = 0
    """Optimiser steps taken."""
    samples: int = 0
    """Pairs that they took: the position in the data."""
    steps: int = 0
    """Optimiser steps of the whole run."""
    is_whole: bool = True
    """Whether this is the state after `step`: no step is being taken, and no other weights stand in
    for the model's."""
    undo: list[tuple[Tensor, Tensor]] = field(default_factory=list[tuple[Tensor, Tensor]])
    """While a step is computed: buffers that it may have changed already, and what they held."""
    taken: torch.cuda.Event | None = None
    """On a GPU: when the last step is done there."""
    order: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the order of the samples depends on, beside the seed; plain JSON."""

    @property
    def model(self) -> Clip:
        """The model that is evaluated and exported: the average if there is one."""
        if self.average is None:
            return self.objective.model
        assert isinstance(self.average.module, Clip)
        return self.average.module


@contextmanager
def exported_weights(state: TrainingState) -> Generator[None, None, None]:
    """Within, the objective's model has the weights that are evaluated and exported: the average,
    if there is one."""
    if state.average is None:
        yield
        return
    model = state.objective.model
    trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state.is_whole = False
    try:
        model.load_state_dict(state.model.state_dict())
        yield
    finally:
        model.load_state_dict(trained)
        state.is_whole = True


def last_good(out: Path) -> str:
    """In words: the newest checkpoint of a run, if there is one."""
    found = [folder for folder in checkpoints(out) if seems_whole(folder)]
    return f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"


def save(state: TrainingState, tokenizer: Tokenizer, out: Path, keep: int) -> Path:
    """Write a checkpoint under `out`, all or nothing, then delete all but the newest `keep` (0 or
    less: none is deleted). Broken ones don't count as kept, and stay.

    `tokenizer` goes along, so that the folder needs nothing else.

    Raises TrainingError, with the older checkpoints untouched, when it can't be written.
    """
    folder = out / "checkpoints" / f"step-{state.step:08d}"
    provenance = {"run": str(out), "step": state.step}
    try:
        with new_folder(folder) as room:
            save_model(room / folder.name, state.model, tokenizer=tokenizer, provenance=provenance)
            _write_training(state, room / folder.name)
            write_checksums(room / folder.name)
    except (OSError, SafetensorError, CheckpointError) as error:
        raise TrainingError(
            f"could not write the checkpoint of step {state.step}: {error}; {last_good(out)}. "
            f"Make room and continue with: diptych train --resume {out}"
        ) from error
    # Only now, when the new one would outlast a power cut. It is one of those that are kept.
    older = [each for each in checkpoints(out) if step_of(each) < state.step and seems_whole(each)]
    for each in older[: max(0, len(older) - keep + 1)] if keep > 0 else []:
        with contextlib.suppress(OSError):
            remove(each)
    return folder


def restore(state: TrainingState, folder: Path, batch_size: int, moments: bool = True) -> list[str]:
    """Resume: put `state` back to where it stood when the checkpoint in `folder` was written; the
    optimiser's moments only if `moments`. `batch_size` is that of its steps, for a checkpoint of an
    older version, which doesn't say how many samples they took. A sentence where weights have no
    moments. Raises CheckpointError if the folder can't be read or doesn't fit."""
    progress, model, training = _read_checkpoint(folder)
    objective = {MODEL + name: tensor for name, tensor in model.items()}
    # What the objective holds beside the model; with a moving average, which is what the model's
    # file then holds, also the weights that are trained: they take the average's place here.
    objective |= _under(OBJECTIVE, training)
    try:
        state.objective.load_state_dict(objective)
        if state.average is not None:
            state.average.module.load_state_dict(model)
            state.average.n_averaged.fill_(progress.step)
        if progress.scaler:  # without float16 there was none
            state.scaler.load_state_dict(progress.scaler)
    except (RuntimeError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{folder} holds another model than the run describes: {' '.join(str(error).split())}"
        ) from error
    without = list[str]()
    for name, parameter in _trained(state) if moments else ():
        # torch keeps the step count on the CPU or the GPU as the fused kernel wants it: beside the
        # weight.
        own = _under(f"{MOMENTS}{name}/", training)
        state.optimizer.state[parameter] = {
            key: tensor.to(parameter.device) for key, tensor in own.items()
        }
        without += [] if own else [name]
    state.step = progress.step
    state.samples = state.step * batch_size if progress.samples is None else progress.samples
    state.steps, state.order = progress.steps, progress.order
    if without and state.optimizer.defaults.get("momentum") != 0:  # plain SGD has none
        return [f"{folder.name} holds no moments of {_few(without)}: they start anew"]
    return []


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if names[2:] else "")


def _read_checkpoint(folder: Path) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]]:
    """What it says of itself, the model's weights, and what else the training needs."""
    progress = read_progress(folder)
    try:
        return progress, load_file(folder / WEIGHTS), load_file(folder / TRAINING)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} can't be continued: {error}") from error


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name starts with `prefix`, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _write_training(state: TrainingState, folder: Path) -> None:
    # Without a moving average the model's file already holds the weights that are trained.
    tensors: dict[str, Tensor] = {
        f"{OBJECTIVE}{name}": tensor
        for name, tensor in state.objective.state_dict().items()
        if state.average is not None or not name.startswith(MODEL)
    }
    for name, parameter in _trained(state):
        for key, tensor in state.optimizer.state[parameter].items():
            tensors[f"{MOMENTS}{name}/{key}"] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / TRAINING)
    progress = Progress(
        version=VERSION,
        step=state.step,
        samples=state.samples,
        steps=state.steps,
        order=state.order,
        scaler=state.scaler.state_dict(),
    )
    (folder / PROGRESS).write_text(json.dumps(asdict(progress)))


def _trained(state: TrainingState) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in state.objective.named_parameters() if p.requires_grad]
