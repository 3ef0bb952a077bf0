"""The training loop: what happens in one step, in order."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from diptych.batch import Batch
from diptych.config import Run
from diptych.distributed import Peers
from diptych.objectives import accumulate
from diptych.optim import learning_rate, set_learning_rate
from diptych.training.metrics import Row
from diptych.training.posted import Posted
from diptych.training.signals import Signals
from diptych.training.state import TrainingState
from diptych.training.step import (
    autocast,
    batch_statistics,
    clip_gradients,
    seed_step,
    update,
)

Callback = Callable[[TrainingState], None]
"""Called after every step: log, save, evaluate."""
_NO_COUNTS: Mapping[str, int] = {}


def train(
    state: TrainingState,
    wrapped: nn.Module,
    batches: Iterable[Batch],
    peers: Peers,
    run: Run,
    meter: "Meter",
    callbacks: Sequence[Callback],
    signals: Signals,
) -> None:
    """Take `state` from its step to the last. `wrapped` is the objective as the peers share it.

    Wherever it is interrupted, `state` is that after its `step`, as long as `state.is_good`. A step
    whose loss or gradient isn't a number changes no weight; TrainingError is raised in the next.
    """
    objective, optimizer, scaler = state.objective, state.optimizer, state.scaler
    weights = [p for p in objective.parameters() if p.requires_grad]
    precision = autocast(run.precision, peers.device)
    for step, batch in zip(range(state.step, state.steps), meter.waiting(batches)):
        state.undo = batch_statistics(objective)
        rate = learning_rate(run.optim, step, state.steps)
        set_learning_rate(optimizer, rate)
        seed_step(run.seed, step, peers.rank)
        losses = accumulate(
            objective,
            wrapped,
            _micro_batches(batch, run.micro_batch),
            peers,
            precision,
            scaler.scale,
        )
        scaler.unscale_(optimizer)  # before the gradients are measured and clipped
        norm = clip_gradients(weights, run.optim.max_norm)
        # A loss scale that was too high shows in the norm alone (the gradients overflow), and the
        # scaler then skips the step and lowers it: with a scaler, only the loss has to be finite.
        gradient = losses.total if scaler.is_enabled() else norm
        told = signals.exchange(state, losses.total, gradient, norm)
        with signals.interrupts.held():
            state.is_whole = False
            objective.before_step()
            update(optimizer, scaler, told.skip)
            optimizer.zero_grad(set_to_none=True)
            objective.after_step(losses.carry)
            if state.average is not None:
                state.average.update()
            state.step, state.samples = step + 1, state.samples + run.batch_size
            state.posted, state.undo, state.is_whole = told.posted, [], True
            if peers.device.type == "cuda":
                state.taken = torch.cuda.Event()
                state.taken.record()
        meter.add(losses.metrics, norm, rate)
        for callback in callbacks:
            callback(state)
    signals.settle(state)
    if state.step < state.steps:  # no data came in time after a stop was asked for
        signals.interrupts.check()


def _micro_batches(batch: Batch, size: int) -> list[Batch]:
    size = size or len(batch)
    return [batch.rows(start, start + size) for start in range(0, len(batch), size)]


class Meter:
    """Means since the last report, and where the time went."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._begin = time.perf_counter()
        self._restart()

    def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, with the time spent waiting for each counted."""
        source = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(source, None)
            self._wait += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def add(self, metrics: dict[str, Tensor], norm: Tensor, rate: float) -> None:
        """Count one step. Tensors stay where they are until `report`."""
        for name, value in (metrics | {"grad_norm": norm.detach()}).items():
            self._sums[name] = (
                self._sums[name] + value if name in self._sums else value.detach().clone()
            )
        self._rate = rate
        self._steps += 1

    def report(
        self, state: TrainingState, peers: Peers, counts: Mapping[str, int] = _NO_COUNTS
    ) -> Callable[[], Row]:
        """A fresh start, and one row of `metrics.jsonl`, to be had when its numbers have come from
        the device: means over the peers, and the sums of their `counts`."""
        elapsed = time.perf_counter() - self._start
        sums = [total.double().view(1).to(peers.device) for total in self._sums.values()]
        own = [torch.full_like(sums[0], count) for count in counts.values()]
        posted, names = Posted(peers.sum(torch.cat([*sums, *own]))), list(self._sums)
        row: Row = {
            "step": state.step,
            "samples": state.samples,
            "seconds": round(time.perf_counter() - self._begin, 3),
            "lr": self._rate,
            "samples_per_second": round(self._steps * self._batch_size / elapsed, 2),
            "data_wait": round(min(1.0, self._wait / elapsed), 4),
        }
        share = 1 / peers.size / self._steps

        def finished() -> Row:
            numbers = posted.read()
            means = {name: number * share for name, number in zip(names, numbers)}
            return row | means | dict(zip(counts, map(int, numbers[len(names) :])))

        self._restart()
        return finished

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._wait = 0.0
        self._steps = 0
        self._rate = 0.0
        self._sums: dict[str, Tensor] = {}
