"""The state of a training run. No generator states: all randomness of a step is a function of
(seed, step)."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.checkpoints.steps import MODEL
from diptych.distributed import fill, whole
from diptych.models import Clip
from diptych.objectives import Objective
from diptych.optim import Group, group_numbers
from diptych.training.average import Average
from diptych.training.posted import PostedStep

_PATIENCE = 5.0
"""Seconds for a GPU to finish the last step."""


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
    posted: PostedStep | None = None
    """What tells whether the last step was good, until it is read (`Signals`)."""
    given: list[dict[str, bool | int | float]] = field(init=False)
    """The numbers of the optimiser's groups before it took a step."""
    taken: torch.cuda.Event | None = None
    """On a GPU: when the last step is done there."""
    order: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the order of the samples depends on, beside the seed; plain JSON."""

    def __post_init__(self):
        self.given = group_numbers(self.optimizer)

    @property
    def model(self) -> Clip:
        """The model that is trained."""
        return self.objective.model

    @property
    def weights(self) -> dict[str, Tensor]:
        """The model's weights that are evaluated and exported, by name: those of the average, if
        there is one."""
        return self.model.state_dict() if self.average is None else self.average.state()

    @property
    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """The objective's parameters that the optimiser changes, by name."""
        return [(name, p) for name, p in self.objective.named_parameters() if p.requires_grad]

    def is_good(self) -> bool:
        """Whether it is that after `step`, and nothing of a step is in it whose loss or gradient
        wasn't a number, or isn't known."""
        posted = self.posted
        if not self.is_whole or posted is None:
            return self.is_whole
        return posted.has_come(_PATIENCE) and not posted.told().bad


def swap_average(state: TrainingState) -> None:
    """Exchange the model's weights and their averages."""
    assert state.average is not None
    state.is_whole = False
    state.average.swap()
    state.is_averaged, state.is_whole = not state.is_averaged, True


@contextmanager
def exported(state: TrainingState) -> Generator[Objective, None, None]:
    """The objective with the `weights` of the state, whole on every process. Every process calls
    it."""
    if state.whole is not None:
        # Sharded towers compute together only; in evaluation each process calls them as often as
        # its share takes.
        objective = state.whole()
        found = state.objective.state_dict() | {
            MODEL + name: t for name, t in state.weights.items()
        }
        for name, tensor in objective.state_dict().items():
            fill(tensor, whole(found[name].detach()))
        for ours, theirs in zip(objective.teachers, state.objective.teachers, strict=True):
            given = theirs.tensors()
            for name, tensor in ours.tensors().items():
                fill(tensor, whole(given[name].detach()))
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
