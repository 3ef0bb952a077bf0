"""What an optimiser keeps of each weight, in a checkpoint: tensors, and plain numbers beside them,
which come back as what they were."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diptych.checkpoints.steps import MOMENTS, NUMBERS, under
from diptych.distributed import shard_like
from diptych.distributed.shards import as_shard
from diptych.errors import CheckpointError
from diptych.optim import group_numbers
from diptych.training.state import TrainingState


def kept(state: TrainingState) -> Iterable[tuple[str, Tensor]]:
    """All of it, by the names that it has in `training.safetensors`. Raises CheckpointError for
    what is neither a tensor nor a number."""
    for name, parameter in state.trained:
        for key, value in state.optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                yield f"{MOMENTS}{name}/{key}", value
            elif value is None or isinstance(value, bool | int | float):
                yield f"{NUMBERS}{name}/{key}", stored(value)
            else:
                raise CheckpointError(
                    f"the optimiser keeps a {type(value).__name__} as {key} of {name}, and "
                    "checkpoints hold tensors and numbers: keep each under a key of its own"
                )


def changed(state: TrainingState) -> list[dict[str, bool | int | float]]:
    """The numbers of its groups that the optimiser itself has changed, in their order."""
    pairs = zip(group_numbers(state.optimizer), state.given, strict=True)
    return [
        {key: value for key, value in now.items() if key not in given or given[key] != value}
        for now, given in pairs
    ]


def put_back(state: TrainingState, groups: Sequence[Mapping[str, Any]]) -> bool:
    """Give the optimiser's groups what it had `changed`; whether they are as many."""
    own = state.optimizer.param_groups
    if len(groups) != len(own):
        return not any(groups)
    for group, numbers in zip(own, groups, strict=True):
        group.update(numbers)
    return True


def restored(name: str, parameter: nn.Parameter, training: Mapping[str, Tensor]) -> dict[str, Any]:
    """That of one weight, of all that `training.safetensors` holds; empty where the weight is a
    shard, and its tensors can't be."""
    # torch keeps the step count on the CPU or the GPU as the fused kernel wants it: beside the
    # weight.
    own = under(f"{MOMENTS}{name}/", training)
    if as_shard(parameter) is not None and not _of_rows(parameter, own.values()):
        return {}
    found: dict[str, Any] = {key: shard_like(parameter, tensor) for key, tensor in own.items()}
    numbers = under(f"{NUMBERS}{name}/", training)
    return found | {key: number_of(tensor) for key, tensor in numbers.items()}


def stored(number: bool | float | None) -> Tensor:
    """A number as a tensor that tells its type; None as an empty one.

    >>> from diptych.training.moments import number_of, stored
    >>> [number_of(stored(number)) for number in (3, 0.1, True, None)]
    [3, 0.1, True, None]
    """
    if number is None:
        return torch.empty(0)
    return torch.tensor(number, dtype=torch.float64 if isinstance(number, float) else None)


def number_of(tensor: Tensor) -> bool | float | None:
    """What `stored` made the tensor of."""
    return tensor.item() if tensor.numel() else None


def _of_rows(parameter: Tensor, moments: Iterable[Tensor]) -> bool:
    """Whether each has a row for each of the parameter's, or is a number for all of it."""
    return all(each.shape[:1] in ((), parameter.shape[:1]) for each in moments)
