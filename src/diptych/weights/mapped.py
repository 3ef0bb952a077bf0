"""Tensors mapped from their file: nothing is read before it is used.

Pages that were read count as the process's memory until their mapping goes. So what is only read on
its way into a model has a mapping of its own, or one that is opened anew from time to time.
https://huggingface.co/docs/safetensors
"""

import errno
import math
import mmap
import os
import sys
import weakref
from collections.abc import Callable
from functools import partial
from operator import index
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from diptych.bounded import parse_json
from diptych.errors import CheckpointError, DamagedError
from diptych.weights.state import Lazy, State

T = TypeVar("T")
WINDOW = 1 << 29
"""Bytes that are mapped at a time for tensors that stay mapped."""
TAKEN = 1 << 27
"""Bytes that are read before a file is opened anew."""
_HEADER = 1 << 24
"""Bytes of a header: a hundred thousand tensors. safetensors allows six times as many."""
_DIMENSIONS = 64
_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)
_BINARY = os.O_BINARY if sys.platform == "win32" else 0
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What a safetensors file calls the kinds of numbers that are read and written."""


class Reopened(Generic[T]):
    """What `open` maps, opened anew after every `TAKEN` bytes that were taken from it; where it is
    one of many files that are read together, after its share of them."""

    def __init__(self, open: Callable[[], T], files: int = 1):
        self._open = open
        self._most = max(TAKEN // files, TAKEN >> 3)
        self._content: T | None = None
        self._taken = 0

    def take(self, size: int) -> T:
        """The content, of which `size` bytes will be read."""
        if self._content is None or self._taken > self._most:
            self._content = None  # the old mapping goes first
            self._content, self._taken = self._open(), 0
        self._taken += size
        return self._content


def read_safetensors(path: Path) -> State:
    """The tensors of a safetensors file, in its order. A file may be larger than the memory. It
    may also be deleted or replaced meanwhile, as a run's checkpoints are: it stays open.
    safetensors' `save_model` keeps one name of a tensor that has several, and tells the others:
    these come last, each with numbers of its own.

    Raises DamagedError if it isn't as it was written, CheckpointError if it can't be opened or
    holds numbers of an unknown kind.
    """
    try:
        file = _Opened(path)
        entries, others = _entries(file)
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged ({error}); copy or download it again") from error
    windows = _Windows(file, end=max((entry.stop for entry in entries.values()), default=0))
    found = {
        name: Lazy(
            torch.empty(entry.shape, dtype=entry.dtype, device="meta"),
            partial(windows.tensor, entry),
            partial(_alone, file, entry),
        )
        for name, entry in sorted(entries.items(), key=lambda item: item[1].start)
    }
    for name, kept in others.items():
        one = found[kept]
        found[name] = Lazy(one.like, one.once, one.once)
    return State(found)


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """What the system refuses to read, in a sentence; a DamagedError if that is for the file's
    state, and not for who reads it."""
    kind = DamagedError if error.errno in _DAMAGE else CheckpointError
    return kind(f"{path} can't be read: {error.strerror or error}")


class _Opened:
    """A file that stays open as long as anybody may read it."""

    def __init__(self, path: Path):
        self.path, self.descriptor = path, os.open(path, os.O_RDONLY | _BINARY)
        weakref.finalize(self, os.close, self.descriptor)


class _Entry(NamedTuple):
    """Where a tensor lies in its file."""

    dtype: torch.dtype
    shape: list[int]
    start: int
    stop: int


def _entries(opened: _Opened) -> tuple[dict[str, _Entry], dict[str, str]]:
    """Where each tensor lies; and of names that were left out, those that were kept."""
    path = opened.path
    with open(opened.descriptor, "rb", closefd=False) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > min(_HEADER, size - 8):
            raise ValueError("its header is cut off")
        header = parse_json(file.read(length))
    said = header.pop("__metadata__", None) or {}
    entries = {
        name: _entry(name, listed, path, first=8 + length) for name, listed in header.items()
    }
    covered = 8 + length
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.stop)):
        if entry.start != covered:  # two tensors would share bytes, or some would be nobody's
            raise ValueError(f"its tensors overlap or leave a hole at byte {covered}")
        covered = entry.stop
    if covered != size:
        raise ValueError(f"it has {size} bytes, and its header tells of {covered}")
    others = {name: kept for name, kept in said.items() if kept in entries and name not in entries}
    return entries, others


def _entry(name: str, listed: dict[str, Any], path: Path, first: int) -> _Entry:
    start, stop = map(index, listed["data_offsets"])
    if listed["dtype"] not in DTYPES:
        raise CheckpointError(
            f"{path}: {name} is of {listed['dtype']}; weights are read in 16, 32 and 64 bits"
        )
    entry = _Entry(
        DTYPES[listed["dtype"]],
        [index(size) for size in listed["shape"]],
        first + start,
        first + stop,
    )
    if (
        start < 0
        or min(entry.shape, default=0) < 0
        or math.prod(max(1, size) for size in entry.shape) >= 1 << 60  # strides, where one is 0
        or len(entry.shape) > _DIMENSIONS
        or stop - start != math.prod(entry.shape) * entry.dtype.itemsize
    ):
        raise ValueError(f"{name} has a wrong size")
    return entry


class _Mapping(NamedTuple):
    """A part of a file."""

    start: int
    stop: int
    content: mmap.mmap

    def tensor(self, entry: _Entry) -> Tensor:
        """Without copying; it keeps the mapping."""
        if entry.start == entry.stop:
            return torch.empty(entry.shape, dtype=entry.dtype)
        count, offset = math.prod(entry.shape), entry.start - self.start
        return torch.frombuffer(self.content, dtype=entry.dtype, count=count, offset=offset).view(
            entry.shape
        )


class _Windows:
    """A file that is mapped a window at a time: every mapping takes one of a process's thousand
    file handles."""

    def __init__(self, file: _Opened, end: int):
        self.file, self.end = file, end
        self.current: _Mapping | None = None

    def tensor(self, entry: _Entry) -> Tensor:
        if (
            self.current is None
            or entry.start < self.current.start
            or entry.stop > self.current.stop
        ):
            self.current = None  # tensors that are in use keep theirs
            self.current = _map(
                self.file, entry.start, max(entry.stop, min(entry.start + WINDOW, self.end))
            )
        return self.current.tensor(entry)


def _alone(file: _Opened, entry: _Entry) -> Tensor:
    """In a mapping of its own, which goes with it."""
    return _map(file, entry.start, entry.stop).tensor(entry)


def _map(file: _Opened, start: int, stop: int) -> _Mapping:
    start -= start % mmap.ALLOCATIONGRANULARITY
    try:
        # A copy on writing: training on from here doesn't change the file.
        content = mmap.mmap(file.descriptor, stop - start, access=mmap.ACCESS_COPY, offset=start)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file.path} can't be mapped ({error}); was it changed?") from error
    return _Mapping(start, stop, content)
