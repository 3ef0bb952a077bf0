"""How a run ends before its last step: the last finished step is saved, one sentence says how to go
on, and of a run that took no step nothing is left."""

import contextlib
import shutil
import sys
from collections.abc import Generator
from pathlib import Path

import torch

from diptych.checkpoints.steps import checkpoints
from diptych.distributed import Peers
from diptych.errors import (
    DataError,
    StoppedError,
    TrainingError,
    is_out_of_memory,
)
from diptych.exit_codes import ExitCode
from diptych.interrupts import Interrupted, Interrupts
from diptych.training.checkpoint import Saver, last_good
from diptych.training.state import TrainingState, swap_average

ALONE, TOGETHER = 1.0, 4.0
"""Seconds in which the step under way is finished after a signal: by one process, and by several,
which have to agree. After that it is given up."""
_WRITING = 10.0
"""Seconds in which several processes finish the checkpoint that they are writing: one of them may
hang, or be gone. One process waits for its disk, however long that takes."""


class Ending:
    """Of one run, from when its folder is `claimed`, which goes with the claim if it is empty."""

    def __init__(
        self,
        state: TrainingState,
        saver: Saver,
        out: Path,
        peers: Peers,
        interrupts: Interrupts,
    ):
        self._state, self._saver, self._out = state, saver, out
        self._peers, self._interrupts = peers, interrupts
        self._start = state.step
        self._found = set(out.iterdir()) if out.is_dir() else set[Path]()

    @contextlib.contextmanager
    def guarding(self) -> Generator[None, None, None]:
        """Within, whatever ends the run is one sentence. Raises StoppedError where it was asked to
        stop and can go on."""
        with self._interrupts.at_last(self._at_last):
            try:
                with self._prepared():
                    yield
            except Interrupted as stop:
                with self._interrupts.held():
                    self._save()
                self._leave_nothing()
                if self._peers.watch is not None:
                    self._peers.watch.tells(stop)  # once who saves has saved
                if not checkpoints(self._out):
                    if not self._state.step:
                        raise
                    raise TrainingError(
                        f"stopped at step {self._state.step} of {self._state.steps} by "
                        f"{stop.reason}; {last_good(self._out)}"
                    ) from stop
                raise StoppedError(self._stopped(stop.reason)) from stop
            except DataError as error:
                raise type(error)(f"{error}{self._safe()}") from error
            except BaseException as error:
                sentence = self._in_words(error)
                if not sentence:
                    with self._interrupts.held():
                        self._settle()
                    self._leave_nothing()
                    raise
                raise TrainingError(f"{sentence}{self._safe()}") from error

    def _in_words(self, error: BaseException) -> str:
        """An error that a user can do something about; empty: it isn't one."""
        step = f"step {self._state.step + 1} of {self._state.steps}"
        if is_out_of_memory(error):
            return (
                f"memory ran out in {step}: lower --micro-batch or --batch-size, or recompute "
                "activations (--model.image.checkpointing)"
            )
        if _is_of_compiling(error):
            return (
                f"--compile: a block couldn't be compiled in {step} ({_why(error)}); without "
                "--compile the run trains, more slowly"
            )
        return ""

    @contextlib.contextmanager
    def _prepared(self) -> Generator[None, None, None]:
        patience = ALONE if self._peers.size == 1 else TOGETHER
        with self._interrupts.patient(patience), contextlib.ExitStack() as stack:
            if self._peers.watch is not None:
                stack.enter_context(self._peers.watch.explained())
            yield

    def _at_last(self) -> tuple[str, int]:
        """Where the main thread hangs: the same, from another one."""
        self._save()
        self._leave_nothing()
        stop = Interrupted(self._interrupts.reason, self._interrupts.code)
        is_told = self._peers.watch is not None and not self._peers.watch.tells(stop)
        saved = bool(checkpoints(self._out))
        sentence = self._stopped(stop.reason) if saved else str(stop)
        return "" if is_told else sentence, ExitCode.AGAIN if saved else stop.code

    def _safe(self) -> str:
        """Save what was trained before an error that leaves it whole; in words, for the end of a
        sentence."""
        with self._interrupts.held(), contextlib.suppress(TrainingError):
            self._save()
        self._leave_nothing()
        if not checkpoints(self._out):
            return ""
        return f"; {last_good(self._out)}. Continue with: diptych train --resume {self._out}"

    def _settle(self) -> None:
        """Wait for the checkpoint that is being written."""
        self._saver.settle(float("inf") if self._peers.size == 1 else _WRITING)

    def _save(self) -> None:
        """Save the last finished step, if it isn't; alone, as the others may be gone. Raises
        TrainingError if that can't be, nor could the checkpoint before be written."""
        state = self._state
        self._settle()
        if not self._is_saver():
            self._saver.check()
            return
        if state.step == self._start or not state.is_good():
            return
        buffers = {id(buffer) for buffer in state.objective.buffers()}
        if any(id(buffer) not in buffers for buffer, _ in state.undo):
            return  # another thread has put them aside
        with _beside(state, self._peers.device):
            if state.is_averaged:  # an evaluation hangs
                swap_average(state)
            for buffer, before in state.undo:
                buffer.copy_(before)
            self._saver.save(state)

    def _is_saver(self) -> bool:
        """All processes have the same weights: where the first is lost, the next one saves. Nobody
        can where each has a share of them."""
        if self._state.whole is not None:
            return False
        watch = self._peers.watch
        return self._peers.is_main or (watch is not None and watch.is_first_left())

    def _stopped(self, reason: str) -> str:
        state, newest = self._state, checkpoints(self._out)[-1].name
        is_saved = newest == f"step-{state.step:08d}"
        what = "everything is saved" if is_saved else f"the last checkpoint is {newest}"
        return (
            f"stopped at step {state.step} of {state.steps} by {reason}; {what}. "
            f"Continue with: diptych train --resume {self._out}"
        )

    def _leave_nothing(self) -> None:
        """Remove what a run that took no step has put into its folder."""
        if self._state.step or not self._peers.is_main or not self._out.is_dir():
            return
        for path in set(self._out.iterdir()) - self._found:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_of_compiling(error: BaseException) -> bool:
    exceptions = sys.modules.get("torch._dynamo.exc")  # a second to import, and else not there
    if exceptions is None:
        return False
    kinds = (exceptions.TorchDynamoException, exceptions.FailOnRecompileLimitHit)
    return isinstance(error, kinds)


def _why(error: BaseException) -> str:
    """In a line, what first went wrong: the kind of trouble, and the trouble."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(" ".join(str(error).splitlines()[:2]).split())


@contextlib.contextmanager
def _beside(state: TrainingState, device: torch.device) -> Generator[None, None, None]:
    """Within, a GPU's weights are copied without waiting for the step under way, which may wait for
    a process that is gone; unless it changes what is saved."""
    with torch.no_grad(), contextlib.ExitStack() as stack:
        if state.taken is not None and not state.undo:
            stream = torch.cuda.Stream(device)
            stream.wait_event(state.taken)
            stack.enter_context(torch.cuda.stream(stream))
        yield
