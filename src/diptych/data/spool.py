"""The cache folder: copies that are costly to make and can always be made again."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diptych.config import DataConfig
from diptych.data.command import TooMuch, TooSlow, write_output
from diptych.data.tar import index_tar
from diptych.durable import lock, sweep, write_file
from diptych.errors import DataError

_SLICE = 0.2
"""Seconds between two looks whether another process has written what this one waits for."""


def cache_folder(config: DataConfig) -> Path:
    """Where this configuration keeps its cache."""
    return Path(config.cache or "~/.cache/diptych").expanduser()


def make_once(target: Path, write: Callable[[Path], object]) -> Path:
    """`target`, written by one of the machine's processes while the others wait. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    while not target.exists():
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock(target.with_suffix(".lock")))
            except BlockingIOError:
                time.sleep(_SLICE)
                continue
            if not target.exists():
                sweep(target.parent, target.name)  # a killed writer's
                write_file(target, write)
    return target


@dataclass(frozen=True, kw_only=True)
class Spool:
    """The output of shell commands as files: a tar each, made once per command text and machine,
    and only kept whole. Delete the folder to run the commands again."""

    folder: Path
    timeout: float
    """Seconds that a command may say nothing; 0: however long."""
    most: float
    """Bytes that all files in the folder may take; 0: as many as there is place for."""
    flags: str
    """What the flags of these settings begin with, for messages; empty: there are none."""

    def place(self, command: str) -> Path:
        """Where the command's output is, or will be."""
        return self.folder / f"{hashlib.sha256(command.encode()).hexdigest()[:32]}.tar"

    def get(self, command: str) -> Path:
        """The command's output. Raises DataError, with its last words, where it or a part of it
        fails, says nothing for too long, or gives no whole tar."""

        def run(path: Path) -> None:
            free = self.most - self._taken() if self.most else float("inf")
            write_output(command, path, self.timeout, free)
            _check_whole(path, f"the output of pipe:{command}")

        try:
            return make_once(self.place(command), run)
        except TooSlow as error:
            more = f", or give it more time ({self.flags}pipe-timeout)" if self.flags else ""
            raise DataError(f"{error}; run it by hand to see why{more}") from None
        except TooMuch as error:
            more = f" ({self.flags}pipe-limit)" if self.flags else ""
            raise DataError(
                f"{error}, and the files in {self.folder} may take {self.most / 1e9:g} GB in all"
                f"{more}: delete what isn't needed any more, or allow more"
            ) from None
        except OSError as error:
            raise DataError(
                f"the output of pipe:{command} can't be kept in {self.folder}: {error}; "
                "set another cache folder"
            ) from None

    def _taken(self) -> int:
        return sum(entry.stat().st_size for entry in os.scandir(self.folder) if entry.is_file())


def _check_whole(path: Path, name: str) -> None:
    """Raises DataError for what is no tar, or not to its end."""
    try:
        error = index_tar(path).error
    except DataError as wrong:
        raise DataError(str(wrong).replace(str(path), name)) from None
    if error:
        raise DataError(f"{name} is {error}; it isn't used")
