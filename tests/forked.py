"""Real processes that start at once: forked from one that has imported what tests run, and has done
nothing else.

Of such servers there is one in each process of pytest, and the first who starts it decides what is
imported: so all tests get theirs here. Types aren't checked in them; what needs an interpreter of
its own (its hash seed, its imports, its memory) starts `sys.executable`.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any


def context() -> ForkServerContext:
    """Where its processes come from."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.preloaded"])
    return found


class Script:
    """`python -c CODE ARGUMENTS`, which begins where its imports are done."""

    def __init__(self, code: str, *arguments: object):
        self._folder = Path(tempfile.mkdtemp())
        given = (code, [str(word) for word in arguments], self._folder)
        self._process: Any = context().Process(target=_work, args=given, daemon=True)
        self._process.start()
        self.pid: int = self._process.pid

    def is_running(self) -> bool:
        return self._process.is_alive()

    def said(self) -> str:
        """Its stdout so far."""
        path = self._folder / "1"
        return path.read_text() if path.exists() else ""

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self, seconds: float = 120.0) -> tuple[int, str, str]:
        """Exit code (negative: a signal's), stdout and stderr."""
        self._process.join(seconds)
        ended = self._process.exitcode is not None
        if not ended:
            self._process.kill()
            self._process.join()
        said, errors = self.said(), (self._folder / "2").read_text()
        shutil.rmtree(self._folder)
        assert ended, f"it didn't end: {errors}"
        return self._process.exitcode, said, errors


def _work(code: str, arguments: list[str], folder: Path) -> None:
    # It ends with pytest, and may yet have children, which multiprocessing refuses to such a one.
    multiprocessing.current_process()._config["daemon"] = False  # pyright: ignore
    for number in (1, 2):
        os.dup2(os.open(folder / str(number), os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
