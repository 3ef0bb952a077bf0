"""A shell command's output as a file: whole, or not at all, and nobody is left running.

Its own process group is killed when it ends, fails or is given up; and when this process dies, by a
second shell that waits for just that. Both streams are read, so that no flood of complaints blocks
it, and what it leaves behind with its ends open is not waited for.
"""

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import BinaryIO

from diptych.data.files import Unreachable
from diptych.data.retry import Transient
from diptych.errors import DataError
from diptych.threads import SLOW, warn_of_slow

_SLICE = 0.5
"""Seconds after which somebody who waits looks around."""
_LEFT_BEHIND = 2.0
"""Seconds without output in which background processes of a command that has ended may go on."""
_CHUNK = 1 << 20
_COMPLAINT = 2000
"""Bytes of its last words that are kept."""
_UNKNOWN = (126, 127)
"""What shells say where there is no such command, or none that may be run."""
_GUARD = 'read -r _; kill -s KILL -- "-$0"'
"""Kills the group when the pipe to its standard input breaks."""


def _anything(size: int) -> None:
    """There is place for any number of bytes."""


class TooSlow(Unreachable):
    """It has given nothing for too long."""


def write_output(
    command: str, path: Path, timeout: float, reserve: Callable[[int], object] = _anything
) -> None:
    """Run the command, as bash does with `-e` and `-o pipefail`, and write what it says to `path`.
    `reserve` is told how many bytes have come, and may raise.

    Raises Transient where it or a part of it fails (with its last words), Unreachable where the
    shell doesn't know it, TooSlow where it says nothing for `timeout` seconds (0: however long).

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych.data.command import write_output
    >>> path = Path(tempfile.mkdtemp(), "out")
    >>> write_output("echo a | tr a b", path, timeout=60.0)
    >>> path.read_text()
    'b\\n'
    """
    with path.open("wb") as file, _running(command) as process:
        complaint = _copy(process, file, f"pipe:{command}", timeout, reserve)
        code = process.wait()
    if code:
        how = f"failed with status {code}" if code > 0 else f"was killed (signal {-code})"
        kind = Unreachable if code in _UNKNOWN else Transient
        raise kind(f"pipe:{command} {how}: {complaint or 'it said nothing'}")


def _shell(command: str) -> list[str]:
    bash = shutil.which("bash")
    if bash:
        return [bash, "-e", "-o", "pipefail", "-c", command]
    if "|" in command:
        raise DataError(
            f"pipe:{command} has a |, and bash, which isn't installed, is needed to know whether "
            "what stands before it failed; install it, or write the command without"
        )
    return ["sh", "-e", "-c", command]


@contextlib.contextmanager
def _running(command: str) -> Generator[subprocess.Popen[bytes], None, None]:
    """The process, in a group of its own that lives as long as this and its parent."""
    arguments = _shell(command)
    with subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        guard = subprocess.Popen(
            ["sh", "-c", _GUARD, str(process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            yield process
        finally:
            guard.kill()
            guard.communicate()
            with contextlib.suppress(ProcessLookupError, PermissionError):  # none is left
                os.killpg(process.pid, signal.SIGKILL)


def _copy(
    process: subprocess.Popen[bytes],
    file: BinaryIO,
    name: str,
    timeout: float,
    reserve: Callable[[int], object],
) -> str:
    """Write the output until it ends; the last complaint, or an empty string."""
    assert process.stdout is not None
    assert process.stderr is not None
    complaint, said = b"", False
    last = time.monotonic()
    with selectors.DefaultSelector() as open_ends:
        open_ends.register(process.stdout, selectors.EVENT_READ)
        open_ends.register(process.stderr, selectors.EVENT_READ)
        running = True
        while True:
            for key, _ in open_ends.select(_SLICE):
                data = os.read(key.fd, _CHUNK)
                if not data:
                    open_ends.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    complaint = (complaint + data)[-_COMPLAINT:]
                else:
                    file.write(data)
                    reserve(len(data))
                    last = time.monotonic()
            if not open_ends.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_SLICE)
            if running and process.poll() is not None:
                running, last = False, time.monotonic()
            silent = time.monotonic() - last
            # What was left behind may hold the ends open for ever.
            if not running and (not open_ends.get_map() or silent > _LEFT_BEHIND):
                break
            if timeout and silent > timeout:
                raise TooSlow(f"{name} has given nothing for {timeout:g} s and was ended")
            if silent > SLOW and not said:
                said = True
                warn_of_slow(name)
    lines = complaint.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
