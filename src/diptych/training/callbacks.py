"""Callbacks: what happens between steps. Metrics are logged, the model is evaluated, checkpoints
are written, and a run that was asked to stop stops."""

import json
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from diptych.config import SaveConfig
from diptych.data import BadSamples, Loader
from diptych.distributed import Peers
from diptych.durable import append
from diptych.errors import TrainingError
from diptych.interrupts import Interrupts
from diptych.training.checkpoint import Saver, last_good
from diptych.training.loop import Callback, Meter
from diptych.training.metrics import Logger, Row
from diptych.training.state import TrainingState

Evaluate = Callable[[TrainingState], Row]
"""From what is trained to a row of metrics."""


def every(steps: int, callback: Callback) -> Callback:
    """`callback` at every `steps`-th step (0: never) and at the last."""

    def run_if_due(state: TrainingState) -> None:
        if is_due(state, steps):
            callback(state)

    return run_if_due


def is_due(state: TrainingState, every_steps: int) -> bool:
    """Whether what happens at every so manieth step (0: never) and at the last happens now."""
    return state.step == state.steps or (every_steps > 0 and state.step % every_steps == 0)


def log_metrics(
    meter: Meter, loader: Loader, peers: Peers, loggers: Sequence[Logger], out: Path
) -> Callback:
    """A callback that logs the means of the last steps, and how many samples were bad, and captions
    longer than the context, so far."""

    def log(state: TrainingState) -> None:
        own = torch.tensor([loader.bad.count, loader.truncated.count], device=peers.device)
        bad, truncated = peers.sum(own).tolist()
        counts = {"bad_samples": bad, "truncated_captions": truncated}
        _log(meter.report(state, peers) | counts, peers, loggers, out)

    return log


def list_bad_samples(path: Path, bad: BadSamples) -> None:
    """Add the bad samples met so far to `path`, each once: a line of JSON with file, key and
    reason."""
    known = path.read_bytes().split(b"\n") if path.exists() else []
    lines = [json.dumps(sample._asdict()) for sample in bad.listed]
    if new := [line for line in lines if line.encode() not in known]:
        append(path, "".join(line + "\n" for line in new))


def log_evaluation(
    evaluate: Evaluate, peers: Peers, loggers: Sequence[Logger], out: Path
) -> Callback:
    """A callback that evaluates the model and logs its metrics. Every process takes part."""

    def log(state: TrainingState) -> None:
        _log(evaluate(state), peers, loggers, out)

    return log


def _log(row: Row, peers: Peers, loggers: Sequence[Logger], out: Path) -> None:
    """Hand `row` to the loggers of the main process. Raises TrainingError if one can't write."""
    if peers.is_main:
        for logger in loggers:
            try:
                logger(row)
            except OSError as error:
                raise TrainingError(
                    f"could not record step {row['step']}: {error}; {last_good(out)}"
                ) from error


class Checkpointer:
    """The callback that has checkpoints written: by steps, by the clock, at the end, and when the
    process is asked to stop, which then ends the run. All processes save and stop at one step."""

    def __init__(self, saver: Saver, config: SaveConfig, peers: Peers, interrupts: Interrupts):
        self._saver, self._config = saver, config
        self._peers, self._interrupts = peers, interrupts
        self._last_saved = time.monotonic()

    def __call__(self, state: TrainingState) -> None:
        """Have a checkpoint written if it is time; the last one is waited for. Raises TrainingError
        if one couldn't be written, Interrupted if a stop was asked for."""
        due = is_due(state, self._config.every_steps)
        # Collectives: every process has to come to both, whatever the first says.
        overdue, stop = self._overdue(), self._peers.any(bool(self._interrupts.reason))
        if due or overdue or stop:
            with self._interrupts.held():
                self._saver.start(state)
                if stop or state.step == state.steps:
                    # Nobody ends, and takes the others with it, while it is being written.
                    self._saver.finish()
            self._last_saved = time.monotonic()
        if stop and state.step < state.steps:
            self._interrupts.check()
            raise self._interrupts.stopped("a signal to another process", 128 + signal.SIGTERM)

    def _overdue(self) -> bool:
        """Whether the last checkpoint is older than it may be. The main process's clock decides for
        all, because clocks differ and all have to save at the same step."""
        minutes = self._config.every_minutes
        if minutes <= 0:
            return False
        elapsed = time.monotonic() - self._last_saved
        return self._peers.any(self._peers.is_main and elapsed > minutes * 60)
