"""Callbacks: what happens between steps. Metrics are logged, the model is evaluated, checkpoints
are written, and a run that was asked to stop stops."""

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from diptych.config import SaveConfig
from diptych.data import BadSamples, Loader
from diptych.distributed import Peers
from diptych.durable import append
from diptych.errors import TrainingError
from diptych.training.checkpoint import Saver, check_kinds, last_good
from diptych.training.loop import Callback, Meter
from diptych.training.metrics import Logger, Row
from diptych.training.signals import Signals
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
    meter: Meter, peers: Peers, signals: Signals, loggers: Sequence[Logger], out: Path
) -> Callback:
    """A callback that logs the means of the last steps, when the step is known to be good."""

    def log(state: TrainingState) -> None:
        finished = meter.report(state, peers)
        signals.when_known(lambda: _log(finished(), peers, loggers, out))

    return log


def counted(loader: Loader) -> dict[str, int]:
    """How many samples were bad, and captions longer than the context, so far on this process."""
    return {"bad_samples": loader.bad.count, "truncated_captions": loader.truncated.count}


def list_bad_samples(path: Path, bad: BadSamples) -> None:
    """Add the bad samples met so far to `path`, each once: a line of JSON with file, key and
    reason."""
    known = path.read_bytes().split(b"\n") if path.exists() else []
    lines = [json.dumps(sample._asdict()) for sample in bad.listed]
    if new := [line for line in lines if line.encode() not in known]:
        append(path, "".join(line + "\n" for line in new))


def log_evaluation(
    evaluate: Evaluate,
    meter: Meter,
    peers: Peers,
    signals: Signals,
    loggers: Sequence[Logger],
    out: Path,
) -> Callback:
    """A callback that evaluates the model and logs its metrics. Every process takes part."""

    def log(state: TrainingState) -> None:
        signals.settle(state)  # waits for a GPU that is still at work on the step
        with meter.paused():
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

    def __init__(self, saver: Saver, config: SaveConfig, signals: Signals):
        self._saver, self._config, self._signals = saver, config, signals
        self._checked = False

    def __call__(self, state: TrainingState) -> None:
        """Have a checkpoint written if it is time; the last one is waited for. Raises TrainingError
        if one couldn't be written, or never could, Interrupted if a stop was asked for."""
        if not self._checked:
            check_kinds(state)
            self._checked = True
        due = is_due(state, self._config.every_steps)
        signals, interrupts = self._signals, self._signals.interrupts
        if due or signals.overdue or signals.stop:
            signals.settle(state)  # nothing of a step is kept that isn't known to be good
            with interrupts.held():
                self._saver.start(state)
                if signals.stop or state.step == state.steps:
                    # Nobody ends, and takes the others with it, while it is being written.
                    self._saver.finish()
            signals.saved()
        if signals.stop and state.step < state.steps:
            interrupts.check()
            raise interrupts.stopped("a signal to another process", 128 + signal.SIGTERM)
