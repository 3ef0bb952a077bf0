"""The state of a training run and its checkpoints: a resumed run equals the uninterrupted one bit
for bit.

What a checkpoint is made of stands in `diptych.checkpoints.steps`. No generator states: all
randomness of a step is a function of (seed, step).
"""

import contextlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

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
from diptych.distributed import Peers, fill, load_whole, shard_like, to_main, whole
from diptych.durable import new_folder, remove
from diptych.errors import CheckpointError, TrainingError
from diptych.inputs import Tokenizer
from diptych.models import Clip
from diptych.objectives import Objective
from diptych.optim import Group
from diptych.training.average import Average
from diptych.weights.native import WEIGHTS, storable, write

_ALONE = Peers()


@dataclass(kw_only=True)
class TrainingState:
    """Everything that changes while training."""

    objective: Objective
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: Average | None
    """The moving average of the model's weights, if the run keeps one."""
    groups: tuple[Group, ...] = ()
    """How the optimiser treats which parameters."""
    origin: Path | None = None
    """The folder that the model came from, beside which its tokenizer may lie."""
    whole: Callable[[], Objective] | None = None
    """Where the objective is sharded: makes one that isn't, with room for its numbers."""
    step: int = 0
    """Optimiser steps taken."""
    samples: int = 0
    """Pairs that they took: the position in the data."""
    steps: int = 0
    """Optimiser steps of the whole run."""
    is_whole: bool = True
    """Whether this is the state after `step`: no step is being taken."""
    is_averaged: bool = False
    """Whether the average's weights stand in the model, and the model's in the average."""
    undo: list[tuple[Tensor, Tensor]] = field(default_factory=list[tuple[Tensor, Tensor]])
    """While a step is computed: buffers that it may have changed already, and what they held."""
    taken: torch.cuda.Event | None = None
    """On a GPU: when the last step is done there."""
    order: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the order of the samples depends on, beside the seed; plain JSON."""

    @property
    def model(self) -> Clip:
        """The model that is trained."""
        return self.objective.model


def swap_average(state: TrainingState) -> None:
    """Exchange the model's weights and their averages."""
    assert state.average is not None
    state.is_whole = False
    state.average.swap()
    state.is_averaged, state.is_whole = not state.is_averaged, True


@contextmanager
def exported(state: TrainingState) -> Generator[Objective, None, None]:
    """The objective with the weights that are evaluated and exported, whole on every process: those
    of the average, if there is one. Every process calls it."""
    if state.whole is not None:
        # Sharded towers compute together only; in evaluation each process calls them as often as
        # its share takes.
        objective = state.whole()
        found = state.objective.state_dict() | {MODEL + name: t for name, t in _model(state)}
        for name, tensor in objective.state_dict().items():
            fill(tensor, whole(found[name].detach()))
        yield objective
    elif state.average is not None:
        swap_average(state)
        try:
            yield state.objective
        finally:
            if state.is_averaged:
                swap_average(state)
    else:
        yield state.objective


def last_good(out: Path) -> str:
    """In words: the newest checkpoint of a run, if there is one."""
    found = [folder for folder in checkpoints(out) if seems_whole(folder)]
    return f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"


def save(
    state: TrainingState, tokenizer: Tokenizer, out: Path, keep: int, peers: Peers = _ALONE
) -> Path:
    """Write a checkpoint under `out`, all or nothing, then delete all but the newest `keep` (0 or
    less: none is deleted). Broken ones don't count as kept, and stay. Every process calls it:
    shards are gathered, and the first one writes.

    `tokenizer` goes along, so that the folder needs nothing else.

    Raises TrainingError, with the older checkpoints untouched, when it can't be written.
    """
    folder = out / "checkpoints" / f"step-{state.step:08d}"
    model, training = to_main(_model(state), peers), to_main(_training(state), peers)
    if not peers.is_main:
        return folder
    provenance = {"run": str(out), "step": state.step}
    try:
        with new_folder(folder) as room:
            write(room / folder.name, state.model.config, model, provenance)
            tokenizer.save(room / folder.name)
            _write_training(state, training, room / folder.name)
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
        load_whole(state.objective.state_dict(), objective)
        if state.average is not None:
            load_whole(state.average.state(), model)
            state.average.go_on()
        if progress.scaler:  # without float16 there was none
            state.scaler.load_state_dict(progress.scaler)
    except (ValueError, RuntimeError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{folder} holds another model than the run describes: {' '.join(str(error).split())}"
        ) from error
    without = list[str]()
    for name, parameter in _trained(state) if moments else ():
        # torch keeps the step count on the CPU or the GPU as the fused kernel wants it: beside the
        # weight.
        own = _under(f"{MOMENTS}{name}/", training)
        state.optimizer.state[parameter] = {
            key: shard_like(parameter, tensor) for key, tensor in own.items()
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


def _model(state: TrainingState) -> Iterable[tuple[str, Tensor]]:
    """What is exported: the average, if there is one."""
    found = state.model.state_dict() if state.average is None else state.average.state()
    return found.items()


def _training(state: TrainingState) -> Iterable[tuple[str, Tensor]]:
    """What a run needs beside that."""
    for name, tensor in state.objective.state_dict().items():
        # Without a moving average the model's file already holds the weights that are trained.
        if state.average is not None or not name.startswith(MODEL):
            yield f"{OBJECTIVE}{name}", tensor
    for name, parameter in _trained(state):
        for key, tensor in state.optimizer.state[parameter].items():
            yield f"{MOMENTS}{name}/{key}", tensor


def _write_training(state: TrainingState, tensors: dict[str, Tensor], folder: Path) -> None:
    save_file(storable(tensors), folder / TRAINING)
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
