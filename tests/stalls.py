"""`diptych` in real processes that hang at a chosen place, until a signal comes."""

import ctypes
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import forked

_PATIENCE = 180.0


def hang_in_python() -> None:
    """As a slow computation does: Python gets its turns."""
    while True:
        time.sleep(0.01)


def hang_in_a_call() -> None:
    """As a read of a stalled disk does, or a collective: a lock that nobody gives back."""
    lock, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_lock(lock)
    library.pthread_mutex_lock(lock)


def at_call(module: str, name: str, count: int, hang: Callable[[], None]) -> None:
    """`module.name` hangs when it is called for the `count`th time."""
    owner = importlib.import_module(module)
    real, calls = getattr(owner, name), list[str]()

    def called(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == count:
            hang()
        return real(*args, **kwargs)

    setattr(owner, name, called)


class Diptych:
    """`diptych ARGUMENTS` in `folder`; before it `prepare(hang)` puts `hang` where it is to hang.
    `hang` says when it is reached. `tag`: of one of several in a folder."""

    def __init__(
        self,
        folder: Path,
        arguments: list[str],
        prepare: Callable[[Callable[[], None]], None],
        hang: Callable[[], None] = hang_in_python,
        environment: dict[str, str] | None = None,
        tag: str = "",
    ):
        folder.mkdir(exist_ok=True)
        tag = tag or (environment or {}).get("RANK", "")
        self._reached, self._errors = folder / f"reached{tag}", folder / f"errors{tag}.txt"
        self._process = forked.context().Process(
            target=_work,
            args=(
                (folder, self._reached, self._errors),
                arguments,
                prepare,
                hang,
                environment or {},
            ),
        )
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def wait_until_it_hangs(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not self._reached.exists():
            assert self._process.is_alive(), self._errors.read_text()
            assert time.monotonic() < deadline, self._errors.read_text()
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> tuple[int, str, float]:
        """Exit code (negative: a signal's), stderr, and the seconds that it took."""
        begin = time.monotonic()
        self._process.join(_PATIENCE)
        if self._process.exitcode is None:
            self._process.kill()
            raise AssertionError(f"it doesn't end: {self._errors.read_text()}")
        return self._process.exitcode, self._errors.read_text(), time.monotonic() - begin


def _work(
    places: tuple[Path, Path, Path],
    arguments: list[str],
    prepare: Callable[[Callable[[], None]], None],
    hang: Callable[[], None],
    environment: dict[str, str],
) -> None:
    folder, reached, errors = places
    os.environ.update(environment)
    descriptor = os.open(errors, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    os.chdir(folder)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)

    def hanging(*_: Any, **__: Any) -> None:
        reached.touch()
        hang()

    prepare(hanging)
    from diptych.cli import main

    main(arguments)
