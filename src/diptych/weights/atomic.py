"""Files and folders that appear whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from diptych.errors import CheckpointError, first_line


@contextlib.contextmanager
def atomic(path: Path, replaceable: Callable[[Path], bool]) -> Generator[Path, None, None]:
    """Yields an empty folder to write `path` in: what the body leaves there as `path.name` becomes
    `path` at the end.

    Everything is flushed to the disk before it gets its name. If the body fails, nothing is left
    behind and what stood at `path` is untouched. Raises CheckpointError if `path` exists and
    `replaceable` says no, or if writing fails (a full disk, no permission).
    """
    if path.exists() and not replaceable(path):
        raise CheckpointError(
            f"{path} exists and holds something else; choose another place or remove it"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        try:
            yield room
            _flush(room)
            if path.is_dir():
                path.rename(room / "replaced")
            (room / path.name).replace(path)
            _sync(path.parent)
        finally:
            shutil.rmtree(room, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not write {path}: {error}; make room or choose another place"
        ) from error


def save_torch(path: Path, content: Any) -> None:
    """`torch.save`, but that a full disk is an OSError, as it is everywhere else."""
    try:
        torch.save(content, path)
    except RuntimeError as error:  # of its zip writer, which counts what it wrote
        raise OSError(f"torch.save broke off ({first_line(error)})") from error


def _flush(folder: Path) -> None:
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(parent) / name)
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
