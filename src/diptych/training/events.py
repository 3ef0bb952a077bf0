"""What happens between steps: reports, evaluations, checkpoints, and the wish to stop."""

import json
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import torch

from diptych.config import SaveConfig
from diptych.data import BadSamples
from diptych.distributed import Peers
from diptych.errors import TrainingError
from diptych.inputs import Tokenizer
from diptych.models import Clip
from diptych.training.loop import Event, Meter
from diptych.training.metrics import Listener, Row
from diptych.training.state import State, save

Evaluate = Callable[[Clip], dict[str, float]]


def every(steps: int, last: int, event: Event) -> Event:
    """`event` at every `steps`-th step (0: never) and at step `last`."""

    def maybe(state: State) -> None:
        if state.step == last or (steps and state.step % steps == 0):
            event(state)

    return maybe


def report(meter: Meter, bad: BadSamples, peers: Peers, listeners: Sequence[Listener]) -> Event:
    """Tell the listeners of the main process how the last steps went."""

    def tell(state: State) -> None:
        broken = int(peers.sum(torch.tensor(bad.count, device=peers.device)))
        _tell(meter.report(state.step, peers) | {"bad_samples": broken}, peers, listeners)

    return tell


def list_bad_samples(path: Path, bad: BadSamples) -> None:
    """Add the broken samples met so far to `path`, each once: a line of JSON with file, key and
    reason."""
    known = set(path.read_text().splitlines()) if path.exists() else set()
    lines = [json.dumps(sample._asdict()) for sample in bad.listed]
    if new := [line for line in lines if line not in known]:
        with open(path, "a") as file:
            file.writelines(line + "\n" for line in new)


def evaluation(evaluate: Evaluate, peers: Peers, listeners: Sequence[Listener]) -> Event:
    """Tell the listeners what `evaluate` says of the model. Every process takes part."""

    def tell(state: State) -> None:
        _tell({"step": state.step, "evaluation": evaluate(state.model)}, peers, listeners)

    return tell


def _tell(row: Row, peers: Peers, listeners: Sequence[Listener]) -> None:
    if peers.is_main:
        for listener in listeners:
            try:
                listener(row)
            except OSError as error:
                raise TrainingError(
                    f"could not record step {row['step']}: {error}; the last checkpoint is good"
                ) from error


class Saver:
    """Writes checkpoints by steps, by the clock, at the end, and when the process is asked to stop.

    SIGTERM and Ctrl-C end the run after the step that is under way: a checkpoint is written and
    TrainingError says how to go on. A second Ctrl-C ends at once."""

    def __init__(
        self, out: Path, config: SaveConfig, tokenizer: Tokenizer, peers: Peers, last: int
    ):
        self._out, self._config, self._tokenizer, self._peers, self._last = (
            out,
            config,
            tokenizer,
            peers,
            last,
        )
        self._saved = time.monotonic()
        self._wish = ""

    def __enter__(self) -> "Saver":
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._wish = signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __call__(self, state: State) -> None:
        """The event: save if it is time, stop if it was asked for."""
        minutes, steps = self._config.every_minutes, self._config.every_steps
        late = minutes > 0 and self._peers.any(
            self._peers.is_main and time.monotonic() - self._saved > minutes * 60
        )
        due = state.step == self._last or (steps > 0 and state.step % steps == 0)
        stop = self._peers.any(bool(self._wish))
        if due or stop or late:
            if self._peers.is_main:
                save(state, self._tokenizer, self._out, self._config.keep)
            self._saved = time.monotonic()
            self._peers.barrier()
        if stop and state.step < self._last:
            raise TrainingError(
                f"stopped at step {state.step} of {self._last} by {self._wish or 'another process'}; everything is "
                f"saved. Continue with: diptych train --resume {self._out}"
            )
