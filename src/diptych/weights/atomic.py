"""Folders of weights that appear whole or not at all."""

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from diptych.durable import by_library, new_folder
from diptych.errors import CheckpointError, first_line


@contextlib.contextmanager
def atomic(path: Path, replaceable: Callable[[Path], bool]) -> Generator[Path, None, None]:
    """Yields an empty folder to write `path` in: what the body leaves there as `path.name` becomes
    `path` at the end.

    If the body fails, nothing is left behind and what stood at `path` is untouched. Raises
    CheckpointError if `path` exists and `replaceable` says no, or if writing fails (a full disk, no
    permission).
    """
    if path.exists() and not replaceable(path):
        raise CheckpointError(
            f"{path} exists and holds something else; choose another place or remove it"
        )
    try:
        with new_folder(path, replaceable) as room:
            yield room
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not write {path}: {first_line(error)}; make room or choose another place"
        ) from error


def save_torch(path: Path, content: Any) -> None:
    """`torch.save`, but that a full disk is an OSError, as it is everywhere else."""
    with by_library(path):
        torch.save(content, path)
