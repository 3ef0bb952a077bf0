"""What the processes of a run tell each other in every step, and what the host reads of it.

A host that asks a GPU for a number waits until the GPU has come so far, which then has nothing more
to do. So nothing is asked of the step under way: its numbers are sent, and read a step later, when
they are there and the GPU has the next step to compute.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.distributed import Peers
from diptych.errors import TrainingError
from diptych.interrupts import Interrupts
from diptych.training.checkpoint import last_good
from diptych.training.posted import PostedStep
from diptych.training.state import TrainingState


class Sent(NamedTuple):
    """What a step has told. `skip`: 1 on the device where its update must not be made, else 0;
    `numbers`: the sum of everybody's; `posted`: what was told and more, on its way to the host."""

    skip: Tensor
    numbers: Tensor
    posted: PostedStep


class Signals:
    """Whether a step's numbers are finite, whether a process was asked to stop, and whether it is
    time for a checkpoint: one small all-reduce a step, so that all processes do the same. What the
    metrics need travels with it.

    Who is alone knows of the last two without it, and at once. `minutes`: the age of the last
    checkpoint at which the next one is due (0: never). `out`: the run's folder. `written`: waits
    for a checkpoint on its way there, before it is said which is the last.
    """

    def __init__(
        self,
        peers: Peers,
        interrupts: Interrupts,
        minutes: float = 0.0,
        out: Path = Path(),
        written: Callable[[], object] = lambda: None,
    ):
        self.interrupts = interrupts
        self._peers, self._minutes, self._out = peers, minutes, out
        self._written, self._saved = written, time.monotonic()
        self._stop = self._overdue = False
        self._waiting = list[Callable[[], None]]()

    @property
    def stop(self) -> bool:
        """Whether a process was asked to stop, as far as all know."""
        return bool(self.interrupts.reason) if self._peers.size == 1 else self._stop

    @property
    def overdue(self) -> bool:
        """Whether the last checkpoint is older than it may be, as far as all know."""
        return self._is_late() if self._peers.size == 1 else self._overdue

    def saved(self) -> None:
        """A checkpoint was written."""
        self._saved, self._overdue = time.monotonic(), False

    def when_known(self, action: Callable[[], None]) -> None:
        """Do this when the last step is known to be good; if it isn't, never."""
        self._waiting.append(action)

    def exchange(
        self, state: TrainingState, loss: Tensor, gradient: Tensor, norm: Tensor, numbers: Tensor
    ) -> Sent:
        """Send what is to be told of the step under way, and read what was told of the one before.
        The step is good if `loss` and `gradient` are finite; `norm` is for the record; `numbers`
        [n] are added up. Raises TrainingError, on every process, where the one before wasn't
        good."""
        # A sum is finite only if both are.
        bad = (~torch.isfinite(loss + gradient)).float().view(1).to(self._peers.device)
        own = (bool(self.interrupts.reason), self._is_late())
        # Filled there: a tensor of numbers would have to be copied, for which the host waits.
        flags = torch.cat([bad, *(bad.new_full((1,), float(x)) for x in own)]).to(numbers.dtype)
        sums = self._peers.sum(torch.cat([flags, numbers]))
        told = [x.detach().to(sums).view(1) for x in (loss, norm)]
        posted = PostedStep(torch.cat([sums[: len(flags)], *told]))
        self.settle(state)
        return Sent((sums[0] > 0).float(), sums[len(flags) :], posted)

    def settle(self, state: TrainingState) -> None:
        """Read what was told of the last step that was taken, and do what waited for it: before its
        state is used for anything but the next step. Raises TrainingError where it wasn't good."""
        posted, state.posted = state.posted, None
        if posted is not None:
            told = posted.told()
            if told.bad:
                state.is_whole = False
                self._written()
                raise TrainingError(
                    f"the loss or its gradient is not a number at step {state.step - 1} (loss "
                    f"{told.loss:.4g}, gradient norm {told.norm:.4g}); {last_good(self._out)}. "
                    "Try a lower --optim.lr, a longer --optim.warmup, --optim.max-norm 1, or "
                    "--precision bf16 in place of fp16"
                )
            self._stop, self._overdue = self._stop or told.stop > 0, told.overdue > 0
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            action()

    def _is_late(self) -> bool:
        # The main process's clock decides for all, because clocks differ.
        elapsed = time.monotonic() - self._saved
        return self._peers.is_main and 0 < self._minutes * 60 < elapsed
