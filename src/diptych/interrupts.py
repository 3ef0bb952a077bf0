"""Being asked to stop: by SIGTERM, Ctrl-C, SIGUSR1 (Slurm's usual warning), a closed terminal, or
by who watches the other processes of a run.

The main thread raises `Interrupted` wherever it is, save where work is `held` together, at whose
end it does. A thread beside it makes sure of it: a call that doesn't come back to Python (a read of
a stalled disk, a collective whose peer is gone) is waited for a few seconds, then the thread does
what has to be done at last and ends the process. A second signal ends the process at once.
"""

import _thread
import contextlib
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType
from typing import Any

GRACE = 4.0
"""Seconds after which the thread ends what the main thread doesn't."""
ECHO = 0.3
"""Seconds within which a second signal is the first one again: who starts programs (timeout, a
shell) often signals both a process and its group."""
_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
_LAST = 45.0
"""Seconds that what is done at last may take."""


class Interrupted(KeyboardInterrupt):
    """Ends what is under way. `reason`: what stopped it, such as SIGTERM; `code`: the exit code by
    convention, 128 and the signal's number. `quiet`: as of a DiptychError."""

    quiet: bool | None = None

    def __init__(self, reason: str, code: int):
        super().__init__(f"stopped by {reason}")
        self.reason, self.code = reason, code


class Interrupts:
    """Whether, why and how this process was asked to stop."""

    def __init__(self, say: Callable[[str], object]):
        self.reason, self.code = "", 0
        """Who asked, such as SIGTERM; empty: nobody."""
        self.echo = ECHO
        self._say = say
        self._process, self._main = os.getpid(), threading.main_thread()
        self._lock, self._depth, self._released = threading.RLock(), 0, 0.0
        self._patience, self._is_urgent, self._is_raised = 0.0, False, False
        self._is_cut_off = False  # the main thread can't be interrupted where it is
        self._is_lost, self._last_began = False, 0.0
        self._at_last = list[Callable[[], tuple[str, int] | None]]()
        self._handlers = dict[int, Any]()
        self._own = 0  # signals that `_wake` sent

    def check(self) -> None:
        """Raises Interrupted if a stop was asked for."""
        if self.reason:
            self._is_raised = True
            raise Interrupted(self.reason, self.code)

    @contextlib.contextmanager
    def held(self) -> Generator[None, None, None]:
        """Within, nothing is cut in two: a stop waits for the end, however long it takes."""
        self._depth += 1
        try:
            with self._lock:
                yield
        finally:
            self._depth -= 1
            self._released = time.monotonic()
        if not self._depth and self._is_due():
            self.check()

    @contextlib.contextmanager
    def patient(self, seconds: float) -> Generator[None, None, None]:
        """Within, who was asked to stop has so many seconds to come to an end by himself, as with
        other processes; he looks at `reason`."""
        before, self._patience = self._patience, seconds
        try:
            yield
        finally:
            self._patience = before

    @contextlib.contextmanager
    def at_last(self, action: Callable[[], tuple[str, int] | None]) -> Generator[None, None, None]:
        """What is done where the main thread hangs, by another thread before it ends the process,
        the innermost first. It may give the sentence to say (empty: another process says it) and
        the exit code."""
        self._at_last.append(action)
        try:
            yield
        finally:
            self._at_last.remove(action)

    def ask(self, reason: str, code: int) -> None:
        """Say that another process is lost, from any thread: this one stops now. It counts more
        than a signal."""
        self.reason, self.code, self._is_urgent, self._is_lost = reason, code, True, True
        self._wake()

    def stopped(self, reason: str, code: int) -> Interrupted:
        """What the main thread is to raise where it met that loss itself; signals that follow, as
        torchrun's to those that are left, raise nothing more."""
        self._is_raised = True
        self.ask(reason, code)
        return Interrupted(reason, code)

    def leave(self, code: int) -> None:
        """End the process and all that it started, without more ado."""
        if sys.stderr is not None and sys.stderr.isatty():
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), b"\x1b[?25h")  # a bar hides the cursor
        _kill_descendants()
        os._exit(code)

    @contextlib.contextmanager
    def answering(self) -> Generator[None, None, None]:
        """Within, signals come here. For the main thread."""
        self._ear, self._mouth = socket.socketpair()
        self._mouth.setblocking(False)
        before = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            # nohup has a run outlast its terminal; but a shell's `&` is no wish to be deaf.
            if number and (number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN):
                self._handlers[number] = signal.signal(number, self._handle)
        thread = threading.Thread(target=self._listen, name="interrupts", daemon=True)
        thread.start()
        try:
            yield
        finally:
            while self._handlers:
                number, handler = self._handlers.popitem()
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            signal.set_wakeup_fd(before)
            self._mouth.close()
            thread.join()
            self._ear.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process just forked, which has no handlers yet
            return
        self._note(number)
        if self._depth or not self._is_due():
            return
        if _is_importing(frame):
            self._is_cut_off = True
        else:
            self.check()

    def _is_due(self) -> bool:
        """Whether the main thread is to raise by itself."""
        return bool(self.reason) and not self._is_raised and (self._is_urgent or not self._patience)

    def _wake(self) -> None:
        """Have the main thread run `_handle`, also where it waits in a system call."""
        if not self._handlers:
            return
        self._own += 1
        if os.name == "nt":
            _thread.interrupt_main(signal.SIGTERM)
        else:
            signal.pthread_kill(self._main.ident or 0, signal.SIGTERM)

    def _listen(self) -> None:
        """The thread."""
        first, ending = 0.0, None
        while True:
            ready, _, _ = select.select([self._ear], [], [], 0.2 if first else None)
            heard = self._ear.recv(64) if ready else b""
            if ready and not heard:
                return
            now = time.monotonic()
            for number in heard:
                if number not in self._handlers:
                    continue
                if self._own:
                    self._own -= 1
                elif first and now - first > self.echo:
                    self.leave(128 + number)
                self._note(number)
                first = first or now
            if not first:
                continue
            if now - first > self._patience and not self._is_urgent:
                self._is_urgent = True
                self._wake()
            since = max(first + self._patience, self._released)
            is_over = self._is_cut_off or now - since > GRACE
            if is_over and ending is None and not hasattr(sys, "ps1"):
                ending = threading.Thread(target=self._end, daemon=True)
                ending.start()
            # What a process that is gone holds up, maybe within `held`, isn't waited for.
            begun = first if self._is_lost else self._last_began
            if ending is not None and begun and now - begun > _LAST:
                self._say(f"stopped by {self.reason}")
                self.leave(self.code)

    def _note(self, number: int) -> None:
        if not self.reason:
            self.reason, self.code = signal.Signals(number).name, 128 + number

    def _end(self) -> None:
        with self._lock:
            self._last_began = time.monotonic()
            told = [action() for action in reversed(self._at_last)]
            default = f"stopped by {self.reason}", self.code
            sentence, code = next(filter(None, told), default)
            if sentence:
                self._say(sentence)
            self.leave(code)


_active = list[Interrupts]()  # signals are the process's, not anybody's


@contextlib.contextmanager
def listening(say: Callable[[str], object] | None = None) -> Generator[Interrupts, None, None]:
    """Within, this process answers when it is asked to stop; who asks within for `listening` gets
    the same. Only the main thread can have this: in another one, nobody is asked.

    `say`: how a sentence reaches the user; by default on stderr.

    >>> from diptych.interrupts import listening
    >>> with listening() as interrupts:
    ...     interrupts.reason
    ''
    """
    if _active:
        yield _active[-1]
        return
    interrupts = Interrupts(say or _on_stderr)
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    _active.append(interrupts)
    try:
        with interrupts.answering():
            yield interrupts
    finally:
        _active.pop()


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: C++ code that imports (torch's does) ends the process
    where that raises."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _on_stderr(sentence: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{sentence}\n".encode())


def _kill_descendants() -> None:
    """All processes that this one started, and theirs: they may hang in what it hung in."""
    children = dict[int, list[int]]()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # "pid (name) state parent ...", and a name may hold anything
            parent = int(file.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    found = [os.getpid()]
    for process in found:
        found += children.get(process, ())
    for process in found[1:]:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
    for child in multiprocessing.active_children():  # where there is no /proc
        child.kill()
