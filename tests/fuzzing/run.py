"""`python -m tests.fuzzing.run COUNT SEED [NAME ...]`: damage files, have them read, and print as
JSON what escaped. In a process of its own, where types are checked as little as at a user's."""

import json
import random
import resource
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

SECONDS = 20
"""An input's share."""


def main() -> None:
    count, seed, names = int(sys.argv[1]), sys.argv[2], sys.argv[3:] or TARGETS
    found = {name: _fuzz(TARGETS[name], name, count, seed) for name in names}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(json.dumps({"failures": found, "peak_gigabytes": peak / 1e6}) + "\n")


def _fuzz(target: Target, name: str, count: int, seed: str) -> dict[str, int]:
    """What escaped, and the first number that shows it."""
    failures = dict[str, int]()
    with tempfile.TemporaryDirectory() as room:
        good, folder = Path(room, "good"), Path(room, "damaged")
        good.mkdir()
        files = [path.relative_to(good) for path in target.make(good)]
        if escaped := _outcome(target.read, good):
            return {f"undamaged: {escaped}": -1}
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
        with _within(SECONDS), warnings.catch_warnings(), _silence():
            warnings.simplefilter("ignore")
            read(folder)
    except DiptychError as error:
        text = str(error)
        return "" if text and "\n" not in text.strip() else f"a message of lines: {text!r}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/diptych/" in frame.filename] or frames
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        return f"{type(error).__name__} below {place}: {str(error)[:100]}"
    return ""


@contextmanager
def _within(seconds: int) -> Generator[None, None, None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@contextmanager
def _silence() -> Generator[None, None, None]:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


if __name__ == "__main__":
    main()
