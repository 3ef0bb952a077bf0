"""A verb in a process of its own that gets a signal at a chosen moment."""

import hashlib
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.stalls import Diptych
from tests.stops.verbs import Verb

_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
_OWN = ("errors", "reached", "count", "struck", "home", "tmp", "cache", "printed")
_NOTES = ("count", "struck")
AGAIN = 0.6
"""Seconds between two signals, which aren't one and its echo."""


@dataclass(frozen=True)
class Moment:
    """When the signal comes: at the `change`th change to files below the folder, or after so many
    `seconds`; by default never."""

    change: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Ended:
    """What came of it."""

    code: int
    said: list[str]
    errors: str
    seconds: float
    """That it took."""
    slow: float
    """Seconds from the first signal to its end."""
    changes: int
    """To files, of which the process knew."""
    session: int


def start(
    verb: Verb,
    world: Path,
    folder: Path,
    moment: Moment = Moment(),
    signals: tuple[int, ...] = (),
    tag: str = "",
) -> Diptych:
    """The verb in `folder`, which is there; `tag` tells it from another one there."""
    words = verb.command.replace("WORLD", str(world)).split()
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    environment = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    prepare = partial(_prepare, folder, moment, signals)
    return Diptych(folder, words, prepare, environment=environment, tag=tag)


def end(process: Diptych, folder: Path) -> Ended:
    """Wait for it."""
    code, errors, seconds = process.end()
    struck = folder / "struck"
    said_then = struck.read_text() if struck.exists() else ""
    slow = time.monotonic() - float(said_then) if said_then else 0.0
    said = [line for line in errors.splitlines() if line.startswith("diptych:")]
    count = folder / "count"
    changes = int(count.read_text() or 0) if count.exists() else 0
    return Ended(code, said, errors, seconds, slow, changes, process.pid)


def left_running(session: int) -> list[int]:
    """Processes of the session that still run."""
    found = list[int]()
    for each in Path("/proc").glob("[0-9]*"):
        try:
            state = (each / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(state[3]) == session and state[0] != "Z":
            found.append(int(each.name))
    return found


def content(folder: Path) -> dict[str, str]:
    """Of each file below the folder that the verb has to answer for, a digest."""
    found = dict[str, str]()
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [name for name in folders if not name.startswith(_OWN)]
        for name in names + [f for f in folders if f.endswith(".partial")]:
            path = Path(parent, name)
            if Path(parent) != folder or not name.startswith(_OWN):
                data = path.read_bytes() if path.is_file() else b""
                found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def _prepare(folder: Path, moment: Moment, signals: tuple[int, ...], _: Any) -> None:
    os.setsid()
    os.dup2(os.open(folder / "printed", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
    tempfile.tempdir = None
    count, struck = (os.open(folder / name, os.O_WRONLY | os.O_CREAT) for name in _NOTES)
    process = os.getpid()
    changes = [0]

    def heard(event: str, given: tuple[Any, ...]) -> None:
        if os.getpid() == process and _is_change(event, given, str(folder)):
            changes[0] += 1
            os.pwrite(count, b"%8d" % changes[0], 0)
            if changes[0] == moment.change:
                _strike(signals, struck)

    sys.addaudithook(heard)
    if moment.seconds:
        timer = threading.Timer(moment.seconds, _strike, [signals, struck])
        timer.daemon = True
        timer.start()


def _is_change(event: str, given: tuple[Any, ...], folder: str) -> bool:
    if event == "open":
        written = isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        written = event in _CHANGES
    if not written or not isinstance(given[0], (str, bytes, os.PathLike)):
        return False
    path = os.fsdecode(given[0])
    return path.startswith(folder) or not os.path.isabs(path)


def _strike(signals: tuple[int, ...], struck: int) -> None:
    os.pwrite(struck, str(time.monotonic()).encode(), 0)
    first, *others = signals
    os.kill(os.getpid(), first)
    for number in others:
        timer = threading.Timer(AGAIN, os.kill, [os.getpid(), number])
        timer.daemon = True
        timer.start()
