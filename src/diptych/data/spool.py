"""The cache folder: copies that are costly to make and can always be made again."""

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from diptych.config import DataConfig
from diptych.data.bounded_folder import FULL, BoundedFolder, NoRoom
from diptych.data.command import TooSlow, write_output
from diptych.data.files import Elsewhere, Store, Unreachable, stamp_of
from diptych.data.retry import Retry, Transient
from diptych.data.tar import index_tar
from diptych.durable import lock, waiting_lock, write_file
from diptych.errors import DataError

_SLICE = 0.2
"""Seconds between two looks whether another process has written what this one waits for."""
_ATTEMPTS = 3
"""How often an output is made that others push out before it is read."""


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
                write_file(target, write)
    return target


class TooMuch(Unreachable):
    """A command gives more than the folder may hold."""


@dataclass(frozen=True, kw_only=True)
class Spool:
    """The output of shell commands as files: a tar each, made once per command text and machine as
    long as there is room, and only kept whole. Delete the folder to run the commands again.

    The outputs used least recently make room for others, and are made again when they are needed;
    what a command gave first is what it has to give then, too.
    """

    folder: Path
    timeout: float
    """Seconds that a command may say nothing; 0: however long."""
    most: float
    """Bytes that all files in the folder may take; 0: as many as there is place for."""
    flags: str
    """What the flags of these settings begin with, for messages; empty: there are none."""
    retry: Retry = Retry()

    @functools.cached_property
    def _room(self) -> BoundedFolder:
        return BoundedFolder(self.folder, self.most)

    def name(self, command: str) -> str:
        """What the file with the command's output is called."""
        return f"{hashlib.sha256(command.encode()).hexdigest()[:32]}.tar"

    def known(self, command: str) -> str:
        """What the command's output is: its bytes and their SHA-256; empty: it was never made."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return self._record(command).read_text()
        return ""

    def _record(self, command: str) -> Path:
        return self.folder / f".{self.name(command)}.sha256"

    def get(self, command: str) -> Path:
        """The command's output, which is there for now. Raises Unreachable, with its last words,
        where it or a part of it fails, again and again, or says nothing for too long, or gives no
        whole tar, or another than the first time."""
        try:
            try:
                return self.retry(partial(self._made, command), command)
            except NoRoom:  # others that are just being written take it
                with waiting_lock(self.folder / ".in-turn"):
                    return self._made_in_turn(command)
        except TooSlow as error:
            more = f", or give it more time ({self.flags}pipe-timeout)" if self.flags else ""
            raise Unreachable(f"{error}; run it by hand to see why{more}") from None
        except TooMuch as error:
            more = f" ({self.flags}pipe-limit)" if self.flags else ""
            raise Unreachable(
                f"{error}, and the files in {self.folder} may take {self.most / 1e9:g} GB in all"
                f"{more}: allow more"
            ) from None

    def _made_in_turn(self, command: str) -> Path:
        while True:
            try:
                return self.retry(partial(self._made, command), command)
            except NoRoom:
                time.sleep(_SLICE)

    def _made(self, command: str) -> Path:
        target, written = self.folder / self.name(command), 0
        still = contextlib.ExitStack()

        def reserve(size: int) -> None:
            nonlocal written
            written += size
            if 0 < self.most < written:
                raise TooMuch(f"pipe:{command} gives more than {self.most:,.0f} bytes")
            self._room.reserve(size)

        def run(path: Path) -> None:
            write_output(command, path, self.timeout, reserve)
            _check_whole(path, f"the output of pipe:{command}")
            self._remember(command, path)
            still.enter_context(self._room.unchanged())  # while it gets its name

        try:
            with still:
                make_once(target, run)
            if not self.known(command):  # it was made by a version that kept no record
                self._remember(command, target)
            return target
        except OSError as error:
            # It had to make room just then.
            gone = isinstance(error, FileNotFoundError) and self.folder.is_dir()
            if gone or (error.errno in FULL and self._room.give_way()):
                raise Transient(str(error)) from None
            raise Unreachable(
                f"the output of pipe:{command} can't be kept in {self.folder}: {error}; "
                "set another cache folder"
            ) from None

    def read(self, command: str, offset: int, size: int) -> bytes:
        """A piece of its output, which is made again if it had to make room. Raises DataError."""
        for _ in range(_ATTEMPTS):
            data = self._room.read(self.name(command), offset, size)
            if data is not None:
                return data
            self.get(command)
        raise Unreachable(
            f"the output of pipe:{command} goes from {self.folder} as soon as it is there: others "
            f"need the room; allow more ({self.flags or '--data.'}pipe-limit)"
        )

    def _remember(self, command: str, path: Path) -> None:
        with path.open("rb") as file:
            found = f"{path.stat().st_size} {hashlib.file_digest(file, 'sha256').hexdigest()}"
        before = self.known(command)
        if before and before != found:
            raise Unreachable(
                f"pipe:{command} gives something else than before; delete {self.folder} to have "
                "its output indexed anew"
            )
        if not before:
            write_file(self._record(command), lambda part: part.write_text(found))


@dataclass(frozen=True)
class _PipedFile(Elsewhere):
    command: str
    length: int
    spool: Spool

    def __str__(self) -> str:
        return f"pipe:{self.command}"

    @property
    def size(self) -> int:
        return self.length

    def read(self, offset: int, size: int) -> bytes:
        return self.spool.read(self.command, offset, size)


class Pipes(Store):
    """The outputs of commands as files; their paths are `pipe:COMMAND`."""

    def __init__(self, spool: Spool):
        super().__init__()
        self._spool = spool

    def _state(self, path: str) -> tuple[int, int]:
        command = path.removeprefix("pipe:")
        if not self._spool.known(command):
            self._spool.get(command)
        known = self._spool.known(command)
        return int(known.partition(" ")[0] or 0), stamp_of(known)

    def check(self, path: str) -> None:
        """Nothing: its output is here, or is said not to be when it's made."""

    def file(self, path: str, state: tuple[int, int]) -> Elsewhere:
        return _PipedFile(path.removeprefix("pipe:"), state[0], self._spool)

    def opened(self, size: int) -> str:
        most = self._spool.most
        if not most or size <= most:
            return ""
        return (
            f"the outputs of all commands take {size / 1e9:.3g} GB, more than the {most / 1e9:g} "
            f"of {self._spool.flags or '--data.'}pipe-limit: a command is run again whenever its "
            "output, which had to make room, is needed; allow more, if there is room"
        )


def _check_whole(path: Path, name: str) -> None:
    """Raises DataError for what is no tar, or not to its end."""
    try:
        error = index_tar(path).error
    except DataError as wrong:
        raise Unreachable(str(wrong).replace(str(path), name)) from None
    if error:
        raise Unreachable(f"{name} is {error}; it isn't used")
