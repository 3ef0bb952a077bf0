"""Work done in order by other processes, or by one thread of this one, with somebody who listens
while he waits for it.

Torch's DataLoader waits without end: for a worker whose batch didn't fit into /dev/shm, for a read
that hangs, and no signal is answered meanwhile. Here the wait is in slices. What is big in an
answer lies in a slot of a `Ring`, or, where it doesn't fit, travels in a memory file of its own
(memfd): no size of /dev/shm limits either (Docker's has 64 MB), and both are gone with those who
know them, however they end.
"""

import atexit
import contextlib
import ctypes
import itertools
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch

from diptych.data.messages import receive, send
from diptych.data.ring import Ring
from diptych.errors import DataError, first_line
from diptych.threads import SLOW, warn_of_slow

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_AHEAD = 2
"""Items that each process has before it."""
_SLICE = 0.5
"""Seconds after which somebody who waits looks around."""
_PATIENCE = 2.0
"""Seconds after which a process that was killed isn't waited for."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


class Note:
    """What a worker reads just now, so that somebody else can say what it waits for."""

    def __init__(self):
        self._now: tuple[Callable[[], str] | None, float] = None, 0.0
        self._said: Callable[[], str] | None = None

    def reading(self, name: Callable[[], str] | None) -> None:
        """From now on it reads what `name()` tells; None: nothing."""
        self._now = name, time.monotonic()

    def slow(self) -> str:
        """What it has been reading for too long, once; else empty."""
        name, since = self._now
        if name is None or name is self._said or time.monotonic() - since < SLOW:
            return ""
        self._said = name
        return name()


@runtime_checkable
class Work(Protocol[T_contra, R_co]):
    """What a worker does with an item. It is pickled where the system can't fork."""

    def __call__(self, item: T_contra, note: Note) -> R_co:
        """The answer, made of what `pickle` can write, and tensors."""
        ...


class _Done(NamedTuple):
    answer: Any


class _Slow(NamedTuple):
    name: str


class _Failed(NamedTuple):
    reason: str
    error: BaseException


class _Remote(Exception):
    """The traceback of another process, as the cause of what is raised here."""


_Message = _Done | _Slow | _Failed


def in_order(
    work: Work[T, R],
    items: Iterable[T],
    processes: int,
    ring: Ring | None = None,
) -> Generator[R, None, None]:
    """`work` of each item, in order, done by so many processes a few items ahead; by 0: in a thread
    of this one, an item at a time. They end with the iteration, and with the caller however he
    ends.

    With a `ring` they are ahead by as many items as it has slots, and the tensors of an answer lie
    there: they are the caller's until he asks for the next answer.

    A signal's handler is heard while it waits. A read that takes long is said in a DataWarning.
    Raises DataError in one sentence where a process was killed or `work` raised; its error is the
    cause.

    >>> from diptych.data.workers import in_order
    >>> list(in_order(lambda item, note: item * item, range(4), processes=0))
    [0, 1, 4, 9]
    """
    workers: list[_Worker[T]] = []
    try:
        for _ in range(processes):
            workers.append(_Process(work, ring))
        workers = workers or [_Thread(work)]
        ahead = ring.slots if ring and processes else max(1, _AHEAD * processes)
        asked = deque[_Worker[T]]()
        for number, (worker, item) in enumerate(zip(itertools.cycle(workers), items)):
            worker.ask(number, item)
            asked.append(worker)
            if len(asked) >= ahead:
                yield _answer(asked.popleft())
        while asked:
            yield _answer(asked.popleft())
    finally:
        for worker in workers:
            worker.end()


def _answer(worker: "_Worker[Any]") -> Any:
    while True:
        match worker.poll(_SLICE):
            case _Done(answer):
                return answer
            case _Slow(name):
                warn_of_slow(name)
            case _Failed(reason, error):
                raise DataError(f"reading data failed: {reason}") from error
            case None:
                pass


class _Worker(ABC, Generic[T]):
    """Answers in the order in which it was asked."""

    @abstractmethod
    def ask(self, number: int, item: T) -> None:
        """Give it the item of this number; returns at once."""

    @abstractmethod
    def poll(self, seconds: float) -> _Message | None:
        """What it says within so many seconds. Raises DataError when it can say nothing more."""

    @abstractmethod
    def end(self) -> None:
        """Nobody asks any more."""


class _Thread(_Worker[T]):
    """A daemon: one that hangs in a read keeps nobody from leaving."""

    def __init__(self, work: Work[T, Any]):
        self._note = Note()
        self._items: queue.SimpleQueue[tuple[T, ...]] = queue.SimpleQueue()
        self._messages: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work: Work[T, Any]) -> None:
        for item in itertools.chain.from_iterable(iter(self._items.get, ())):
            self._messages.put(_attempt(work, item, self._note))

    def ask(self, number: int, item: T) -> None:
        self._items.put((item,))

    def poll(self, seconds: float) -> _Message | None:
        try:
            return self._messages.get(timeout=seconds)
        except queue.Empty:
            slow = self._note.slow()
            return _Slow(slow) if slow else None

    def end(self) -> None:
        self._items.put(())


class _Process(_Worker[T]):
    def __init__(self, work: Work[T, Any], ring: Ring | None):
        self._ring, self._numbers = ring, deque[int]()
        # Forked where the system is Linux; the loader's docstring says why.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._connection, theirs = context.Pipe()
        alone = threading.current_thread() is threading.main_thread()
        self._process = context.Process(
            target=_serve, args=(theirs, work, ring, os.getpid(), alone), daemon=True
        )
        # Python 3.12 warns of forking beside threads; the loader's docstring says why it's safe.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*multi-threaded, use of fork", DeprecationWarning)
            self._process.start()
        atexit.register(self._process.kill)  # multiprocessing's own SIGTERM they don't answer
        theirs.close()

    def ask(self, number: int, item: T) -> None:
        self._numbers.append(number)
        with contextlib.suppress(ConnectionError):  # it has died, which who polls it says
            self._connection.send((number, item))

    def poll(self, seconds: float) -> _Message | None:
        ready = wait([self._connection, self._process.sentinel], seconds)
        if self._connection in ready:
            try:
                number = self._numbers[0] if self._numbers else 0
                message: _Message = receive(self._connection, _slot(self._ring, number))
            except (EOFError, ConnectionError):
                pass
            else:
                if not isinstance(message, _Slow):
                    self._numbers.popleft()
                return message
        if ready:
            raise DataError(self._cause_of_death())
        return None

    def _cause_of_death(self) -> str:
        self._process.join(_PATIENCE)
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"a process that reads data ended by itself (exit code {code})"
        if code == -signal.SIGKILL:
            return (
                "a process that reads data was killed (signal 9), probably because the memory was "
                "full; fewer --data.workers or a smaller --batch-size need less"
            )
        return (
            f"a process that reads data was killed by {signal.Signals(-code).name}; with "
            "--data.workers 0 the reading is done without one"
        )

    def end(self) -> None:
        self._process.kill()  # it has nothing to save, and may hang
        self._process.join(_PATIENCE)
        self._connection.close()
        atexit.unregister(self._process.kill)


def _serve(
    connection: Connection, work: Work[Any, Any], ring: Ring | None, parent: int, alone: bool
) -> None:
    """A worker's life."""
    # A signal to the whole group is the parent's to answer: it saves a checkpoint first and then
    # lets its workers go.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # The kernel's word for it counts from the thread that forked; another may end before its time.
    if sys.platform == "linux" and alone:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    torch.set_num_threads(1)
    note, lock = Note(), threading.Lock()

    def say(message: _Message, slot: memoryview | None = None) -> None:
        with lock:
            send(connection, message, slot)

    threading.Thread(target=_watch, args=(parent, note, say), daemon=True).start()
    try:
        while True:
            number, item = connection.recv()
            say(_attempt(work, item, note, remote=True), _slot(ring, number))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has gone


def _watch(parent: int, note: Note, say: Callable[[_Message], None]) -> None:
    """End with the parent, also when it was killed and whatever this process waits for."""
    while os.getppid() == parent:
        if slow := note.slow():
            say(_Slow(slow))
        time.sleep(_SLICE)
    os._exit(1)


def _attempt(work: Work[T, Any], item: T, note: Note, remote: bool = False) -> _Done | _Failed:
    try:
        return _Done(work(item, note))
    except Exception as error:  # noqa: BLE001 -- of a source from outside it may be any
        cause = _Remote(traceback.format_exc()) if remote else error
        return _Failed(_reason(error), cause)
    finally:
        note.reading(None)


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "the memory is full; fewer --data.workers or a smaller --batch-size need less"
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {first_line(error)}"
    return f"{what} ({os.path.basename(last.filename)}, line {last.lineno})"


def _slot(ring: Ring | None, number: int) -> memoryview | None:
    return None if ring is None else ring.slot(number)
