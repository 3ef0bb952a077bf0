"""Who of the other processes is lost, and who of those left says so.

A collective waits for all. Gloo notices a closed connection; NCCL may wait for its time limit. So
each process has a thread that looks after the others: those of its own machine by their number,
those of others by their heartbeat, and what any of them wrote into the store that they all reach
before it ended. The loss of one ends them all, with one sentence.
"""

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from torch.distributed import (
    PrefixStore,  # pyright: ignore[reportPrivateImportUsage]: documented, and not exported
    Store,  # pyright: ignore[reportPrivateImportUsage]
    TCPStore,  # pyright: ignore[reportPrivateImportUsage]
)

from diptych.errors import DiptychError, StoppedError, first_line, is_out_of_memory
from diptych.exit_codes import ExitCode
from diptych.interrupts import Interrupted, Interrupts

_PERIOD = 0.5
"""Seconds between two looks."""
_BEAT = 5.0
"""Seconds between two heartbeats."""
_SILENCE = 30.0
"""Seconds without a heartbeat after which a process of another machine is lost."""
_VERDICT = 5.0
"""Seconds in which a loss that broke a collective is found."""
_DYING = 3.0
"""Seconds in which a process that held the store is seen to be dead: its connections end first."""
_TELLING = 15.0
"""Seconds that the first process has to save, and to say what happened."""
_FIRST, _TOLD = "first", "told"
"""Keys of the store: what ended first, and who says so."""


@dataclass(frozen=True)
class _Place:
    """Where a process runs."""

    machine: str
    process: int


@dataclass(frozen=True)
class _End:
    """What ended the run elsewhere, in words as after "stopped by", and the exit code of those who
    hear of it."""

    reason: str
    code: int = ExitCode.PARTLY


class Watch:
    """Looks after the other processes of a run, from a thread, as long as `watching` lasts."""

    def __init__(self, store: Store, rank: int, size: int, interrupts: Interrupts):
        self._store, self._rank, self._interrupts = store, rank, interrupts
        self._parent = os.getppid()
        here = _Place(_machine(), os.getpid())
        store.set(f"place/{rank}", json.dumps([here.machine, here.process]))
        store.add(f"beat/{rank}", 1)
        # Waits until all have come.
        texts = store.multi_get([f"place/{other}" for other in range(size)])
        places = [_Place(*json.loads(text)) for text in texts]
        self._places = places
        self._near = {
            other: place.process
            for other, place in enumerate(places)
            if place.machine == here.machine and other != rank
        }
        # The first hears all, and all hear the first.
        far = range(1, size) if rank == 0 else (0,)
        self._far = [other for other in far if other not in self._near]
        now = time.monotonic()
        self._heard: dict[int, tuple[int, float]] = dict.fromkeys(self._far, (0, now))
        self._beaten = self._looked = now
        self._leaving = threading.Event()
        self._tells: bool | None = None
        self._found: _End | None = None
        """What the thread has seen."""

    @contextlib.contextmanager
    def watching(self) -> Generator[None, None, None]:
        """Within, the loss of a process interrupts this one. What ends the body here ends it
        everywhere, and one process says so: `quiet` of the error is set."""
        thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        thread.start()
        try:
            with self._interrupts.at_last(self._at_last):
                try:
                    with self.explained():
                        yield
                        dist.barrier()  # who has ended is missed by who hasn't
                    self._store.set(f"done/{self._rank}", "")
                except (DiptychError, Interrupted) as error:
                    error.quiet = not self.tells(error)
                    raise
                except BaseException as error:
                    self.tells(error)
                    raise
        finally:
            self._leaving.set()
            thread.join()

    @contextlib.contextmanager
    def explained(self) -> Generator[None, None, None]:
        """Within, a collective that failed because a process was lost raises Interrupted."""
        try:
            yield
        except RuntimeError as error:
            own = isinstance(error, DiptychError) or is_out_of_memory(error)
            end = None if own else self._verdict(error)
            if not end:
                raise
            raise self._interrupts.stopped(end.reason, end.code) from error

    def tells(self, error: BaseException) -> bool:
        """Tell the others why this process ends; whether it is the one that tells the user. The
        first to ask settles it: a run says its end before the group it ran in does."""
        if self._tells is None:
            self._tells = self._settle(error)
        return self._tells

    def _settle(self, error: BaseException) -> bool:
        self._leaving.set()
        own = not isinstance(error, Interrupted) or error.code > 128
        with contextlib.suppress(RuntimeError):  # the store may be what was lost
            if own:
                self._publish(_end_by(error, self._rank))
            deadline = time.monotonic() + _TELLING
            while not self.is_first_left() and not self._store.check([_TOLD]):
                if time.monotonic() > deadline:
                    break
                time.sleep(_PERIOD)
            said = self._store.compare_set(_TOLD, "", str(self._rank)).decode()
            return said == str(self._rank)
        return self.is_first_left()

    def is_first_left(self) -> bool:
        """Whether all processes before this one are lost: it does what the first one would."""
        return all(self._is_lost(other) for other in range(self._rank))

    def _at_last(self) -> tuple[str, int]:
        stop = Interrupted(self._interrupts.reason, self._interrupts.code)
        return str(stop) if self.tells(stop) else "", stop.code

    def _watch(self) -> None:
        """The thread."""
        while not self._leaving.wait(_PERIOD):
            end = self._look()
            if end and not self._leaving.is_set():
                self._found = end
                self._interrupts.ask(end.reason, end.code)
                return

    def _verdict(self, error: RuntimeError) -> _End | None:
        """Which loss broke a collective; None: the error is this process's own."""
        is_collective = isinstance(error, dist.DistError) or "gloo" in str(error)
        patience = _SILENCE + _BEAT if is_collective and self._far else _VERDICT
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if end := self._look() or self._found:
                return end
            time.sleep(_PERIOD)
        return _End("the loss of the connection to another process") if is_collective else None

    def _look(self) -> _End | None:
        """What ended the run elsewhere; None: nothing."""
        if os.getppid() != self._parent:
            return _End("the end of what started it (torchrun)")
        try:
            if self._store.check([_FIRST]):
                rank, *end = json.loads(self._store.get(_FIRST))
                return _End(*end) if rank != self._rank else None
            for other in filter(self._is_lost, self._near):
                if not self._store.check([f"done/{other}"]):
                    return self._publish(_loss(other, self._places[other]))
            return self._listen()
        except RuntimeError as error:
            deadline = time.monotonic() + _DYING
            while time.monotonic() < deadline:
                for other in filter(self._is_lost, self._near):
                    return _loss(other, self._places[other])
                time.sleep(_PERIOD)
            return _End(f"the loss of the machine that holds the run's store ({first_line(error)})")

    def _listen(self) -> _End | None:
        """Beat, and hear the hearts of other machines."""
        now = time.monotonic()
        if now - self._looked > _BEAT:  # this process itself was asleep
            self._heard = {other: (self._heard[other][0], now) for other in self._far}
        self._looked = now
        if now - self._beaten < _BEAT:
            return None
        self._beaten = now
        self._store.add(f"beat/{self._rank}", 1)
        if not self._far:
            return None
        counts = map(int, self._store.multi_get([f"beat/{other}" for other in self._far]))
        for other, beats in zip(self._far, counts, strict=True):
            before, since = self._heard[other]
            if beats != before:
                self._heard[other] = (beats, now)
            elif now - since > _SILENCE:
                return self._publish(_loss(other, self._places[other]))
        return None

    def _publish(self, end: _End) -> _End:
        """Write what ended this run, if nobody has; what did."""
        own = json.dumps([self._rank, end.reason, end.code])
        _, *first = json.loads(self._store.compare_set(_FIRST, "", own))
        return _End(*first)

    def _is_lost(self, other: int) -> bool:
        return other in self._near and not _is_alive(self._near[other])


def open_store(timeout: timedelta) -> Store:
    """A connection of our own to the store at which the processes met: theirs is held by who waits
    in it."""
    environment = os.environ
    store = TCPStore(
        environment["MASTER_ADDR"],
        int(environment["MASTER_PORT"]),
        is_master=False,
        wait_for_workers=False,
        timeout=timeout,
    )
    return PrefixStore(f"diptych/{attempt()}", store)


def attempt() -> str:
    """Which of torchrun's attempts this is."""
    return f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _machine() -> str:
    """The machine and, of containers, the one in which processes see each other."""
    with contextlib.suppress(OSError):
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"
    return platform.node()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    with contextlib.suppress(OSError):
        # "pid (name) state ...": a zombie is dead, and only not asked for yet
        return not Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].startswith(" Z")
    return True


def _loss(rank: int, place: _Place) -> _End:
    machine = place.machine.partition(" ")[0]
    return _End(
        f"the loss of rank {rank} (process {place.process} on {machine} was killed or has crashed, "
        "perhaps because the memory was full)"
    )


def _end_by(error: BaseException, rank: int) -> _End:
    """Of this rank's error. A user's mistake is one in every process, whoever finds it first."""
    if isinstance(error, StoppedError) and error.__cause__:
        return _end_by(error.__cause__, rank)
    if isinstance(error, Interrupted):
        return _End(f"{error.reason} to rank {rank}")
    code = ExitCode.REFUSED if isinstance(error, DiptychError) else ExitCode.PARTLY
    return _End(f"an error on rank {rank} ({type(error).__name__}: {first_line(error)})", code)
