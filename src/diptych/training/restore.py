"""Going on with a run from a checkpoint: a resumed run equals the uninterrupted one bit for bit."""

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diptych.checkpoints.steps import (
    MODEL,
    OBJECTIVE,
    TRAINING,
    Progress,
    read_progress,
    under,
)
from diptych.distributed import load_whole
from diptych.errors import CheckpointError
from diptych.training.moments import put_back, restored
from diptych.training.state import TrainingState
from diptych.weights.native import WEIGHTS


def restore(state: TrainingState, folder: Path, batch_size: int, moments: bool = True) -> list[str]:
    """Resume: put `state` back to where it stood when the checkpoint in `folder` was written; the
    optimiser's moments and numbers only if `moments`. `batch_size` is that of its steps, for a
    checkpoint of an older version, which doesn't say how many samples they took. Sentences on what
    of the optimiser starts anew. Raises CheckpointError if the folder can't be read or doesn't
    fit."""
    progress, model, training = _read_checkpoint(folder)
    objective = {MODEL + name: tensor for name, tensor in model.items()}
    # What the objective holds beside the model; with a moving average, which is what the model's
    # file then holds, also the weights that are trained: they take the average's place here.
    objective |= under(OBJECTIVE, training)
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
    for name, parameter in state.trained if moments else ():
        own = restored(name, parameter, training)
        state.optimizer.state[parameter] = own
        without += [] if own else [name]
    as_many = put_back(state, progress.groups) if moments else True
    state.step = progress.step
    state.samples = state.step * batch_size if progress.samples is None else progress.samples
    state.steps, state.order = progress.steps, progress.order
    said = list[str]()
    if without and state.optimizer.defaults.get("momentum") != 0:  # plain SGD has none
        said.append(f"{folder.name} holds no moments of {_few(without)}: they start anew")
    if not as_many:
        said.append(
            f"{folder.name} holds what the optimiser kept of {len(progress.groups)} groups of "
            f"parameters, and there are {len(state.given)}: it starts anew"
        )
    return said


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if names[2:] else "")


def _read_checkpoint(folder: Path) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]]:
    """What it says of itself, the model's weights, and what else the training needs."""
    progress = read_progress(folder)
    try:
        return progress, load_file(folder / WEIGHTS), load_file(folder / TRAINING)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} can't be continued: {error}") from error
