"""`python -m tests.fuzzing.run COUNT SEED [NAME ...]`: damage files, have them read, and print as
JSON what escaped. In a process of its own, where types are checked as little as at a user's."""

import json
import random
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from diptych.errors import DiptychError
from tests.fuzzing.mutate import mutated
from tests.fuzzing.targets import TARGETS, Target

SECONDS, WALL_SECONDS = 20, 300
"""An input's share of the processor's time, and of the clock's."""
MEGABYTES = 2000
"""What an input may take in memory."""


def main() -> None:
    count, seed, names = int(sys.argv[1]), sys.argv[2], sys.argv[3:] or TARGETS
    found = dict[str, dict[str, int]]()
    for name in names:
        found[name] = _fuzz(TARGETS[name], name, count, seed)
        sys.stderr.write(f"{name}: {count} inputs, {found[name] or 'none escaped'}\n")
        sys.stderr.flush()
    sys.stdout.write(json.dumps(found) + "\n")


def _fuzz(target: Target, name: str, count: int, seed: str) -> dict[str, int]:
    """What escaped, and the first number that shows it."""
    failures = dict[str, int]()
    with tempfile.TemporaryDirectory() as room:
        good, folder = Path(room, "good"), Path(room, "damaged")
        good.mkdir()
        files = [path.relative_to(good) for path in target.make(good)]
        target.read(good)  # what is undamaged is read
        for number in range(count):
            rng = random.Random(f"{seed} {name} {number}")
            shutil.copytree(good, folder)
            victim = folder / rng.choice(files)
            victim.write_bytes(mutated(victim.read_bytes(), rng))
            if escaped := _outcome(target.read, folder):
                failures.setdefault(escaped, number)
            shutil.rmtree(folder)
    return failures


def _outcome(read: Callable[[Path], object], folder: Path) -> str:
    """Empty, or what escaped."""
    try:
        with _within_limits(), warnings.catch_warnings(), _silence():
            warnings.simplefilter("ignore")
            read(folder)
    except DiptychError as error:
        text = str(error)
        return "" if text and "\n" not in text.strip() else f"a message of lines: {text[:200]!r}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/diptych/" in frame.filename] or frames
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        return f"{type(error).__name__} below {place}: {str(error)[:100]}"
    return ""


class _TooMuchError(Exception):
    pass


@contextmanager
def _within_limits() -> Generator[None, None, None]:
    def late(*_: object) -> None:
        raise _TooMuchError("it took too long")

    signal.signal(signal.SIGPROF, late)
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(WALL_SECONDS)
    before = _peak(anew=True)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if _peak() - before > MEGABYTES:
            raise _TooMuchError("it took too much memory")


def _peak(anew: bool = False) -> float:
    """The most megabytes that the process had, since the last time that `anew` was asked for."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


@contextmanager
def _silence() -> Generator[None, None, None]:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


if __name__ == "__main__":
    main()
