"""The training loop: what happens in one step, in order."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

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
    weights = [parameter for _, parameter in state.trained]
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
        numbers = meter.own(losses.metrics, norm, peers)
        told = signals.exchange(state, losses.total, gradient, norm, numbers)
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
        meter.add(told.numbers, rate)
        for callback in callbacks:
            callback(state)
    signals.settle(state)
    if state.step < state.steps:  # no data came in time after a stop was asked for
        signals.interrupts.check()


def _micro_batches(batch: Batch, size: int) -> list[Batch]:
    size = size or len(batch)
    return [batch.rows(start, start + size) for start in range(0, len(batch), size)]


class Meter:
    """Means since the last report, and where the time went.

    `counts`: gives what was counted on this process since the run began, by name.
    """

    def __init__(self, batch_size: int, counts: Callable[[], Mapping[str, int]] = dict[str, int]):
        self._batch_size, self._counts = batch_size, counts
        self._begin = time.perf_counter()
        self._wait = 0.0
        """Seconds that the batch under way was waited for."""
        self._restart()

    def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, with the time spent waiting for each counted."""
        source = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(source, None)
            self._wait = time.perf_counter() - start
            if batch is None:
                return
            yield batch

    @contextmanager
    def paused(self) -> Generator[None, None, None]:
        """Time within isn't training's: the speed is that of steps."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - start

    def own(self, metrics: Mapping[str, Tensor], norm: Tensor, peers: Peers) -> Tensor:
        """[numbers] What this process adds to the row of a step, float64: its metrics and gradient
        norm, of which the row has means, what it has counted, and, in a place of its own, how long
        it waited for the batch."""
        values, counts = {**metrics, "grad_norm": norm}, self._counts()
        self._names, self._counted = list(values), list(counts)
        # Filled there: a tensor of numbers would have to be copied, for which the host waits.
        fresh = torch.empty(1, dtype=torch.float64, device=peers.device)
        found = [value.detach().to(fresh).view(1) for value in values.values()]
        waits = fresh.new_zeros(peers.size)
        waits[peers.rank].fill_(self._wait)
        return torch.cat(
            [*found, *(torch.full_like(fresh, count) for count in counts.values()), waits]
        )

    def add(self, numbers: Tensor, rate: float) -> None:
        """Count one step: the sum over the peers of what `own` gave. Tensors stay where they are
        until `report`."""
        last = len(self._names) + len(self._counted)
        self._counts_of_all, waits = numbers[len(self._names) : last], numbers[last:]
        self._waits = waits if self._waits is None else self._waits + waits
        for name, value in zip(self._names, numbers):
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._rate = rate
        self._steps += 1

    def report(self, state: TrainingState, peers: Peers) -> Callable[[], Row]:
        """A fresh start, and one row of `metrics.jsonl`, to be had when its numbers have come from
        the device: means over the steps and the peers, the sums of the peers' counts, and the share
        of the time that the peers waited for data, in the mean and of who waited longest. Nothing
        is sent: the steps have told each other all."""
        assert self._waits is not None
        elapsed = time.perf_counter() - self._start
        means, counts, counted = list(self._sums), self._counts_of_all, self._counted
        posted = Posted(torch.cat([torch.stack([*self._sums.values()]), counts, self._waits]))
        row: Row = {
            "step": state.step,
            "samples": state.samples,
            "seconds": round(time.perf_counter() - self._begin, 3),
            "lr": self._rate,
            "samples_per_second": round(self._steps * self._batch_size / elapsed, 2),
        }
        share = 1 / peers.size / self._steps

        def finished() -> Row:
            numbers = posted.read()
            waits = [min(1.0, wait / elapsed) for wait in numbers[-peers.size :]]
            row["data_wait"] = round(sum(waits) / len(waits), 4)
            row["data_wait_max"] = round(max(waits), 4)
            row["data_wait_rank"] = waits.index(max(waits))
            row.update({name: number * share for name, number in zip(means, numbers)})
            return row | dict(zip(counted, map(int, numbers[len(means) :])))

        self._restart()
        return finished

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._waits: Tensor | None = None
        self._steps = 0
        self._rate = 0.0
        self._sums: dict[str, Tensor] = {}
