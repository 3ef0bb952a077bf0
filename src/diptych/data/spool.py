"""The cache folder: copies that are costly to make and can always be made again."""

import fcntl
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

from diptych.config import DataConfig
from diptych.durable import write_file
from diptych.errors import DataError


def cache_folder(config: DataConfig) -> Path:
    """Where this configuration keeps its cache."""
    return Path(config.cache or "~/.cache/diptych").expanduser()


def make_once(target: Path, write: Callable[[Path], object]) -> Path:
    """`target`, written by one of the machine's processes while the others wait. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            write_file(target, write)
    return target


def spool_command(command: str, cache: Path) -> Path:
    """The output of a shell command as a file, made once per command text and machine.

    Delete `pipes` in the cache folder to run the command again. Raises DataError with the last line
    of its complaints.
    """

    def run(path: Path) -> None:
        with path.open("wb") as out:
            done = subprocess.run(
                command, shell=True, stdout=out, stderr=subprocess.PIPE, check=False
            )
        if done.returncode:
            complaint = done.stderr.decode("utf-8", "replace").strip().splitlines() or [
                "it said nothing"
            ]
            raise DataError(f"pipe:{command} failed with status {done.returncode}: {complaint[-1]}")

    target = cache / "pipes" / f"{hashlib.sha256(command.encode()).hexdigest()[:32]}.tar"
    try:
        return make_once(target, run)
    except OSError as error:
        raise DataError(
            f"the output of pipe:{command} can't be kept in {target.parent}: {error}; "
            "set --data.cache"
        ) from None
