"""Tensors out of any weight file, without running what is in it.

The kind of file is told by its first bytes, not by its name: safetensors, torch's zip and legacy pickles (both by
torch's restricted unpickler), TorchScript archives (by ours), and folders of shards with an index.
"""

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diptych.checkpoints.archive import is_archive, read_archive
from diptych.errors import CheckpointError

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_NESTED = ("state_dict", "model")
"""Where training checkpoints keep the weights."""
_WRAPPERS = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before each name."""


class Weights(NamedTuple):
    """Names and tensors as a file holds them, and what kind of file it was."""

    tensors: dict[str, Tensor]
    kind: Literal["safetensors", "torch", "archive"]


def read_weights(path: Path) -> Weights:
    """All tensors of a weight file, or of the shards that an `….index.json` lists. Memory-mapped where possible.

    Raises CheckpointError for a file that is missing, damaged, not a weight file, or would execute code.
    """
    if path.name.endswith(".index.json"):
        shards = read_json(path).get("weight_map", {})
        parts = [read_weights(path.parent / Path(name).name) for name in sorted(set(shards.values()))]
        if not parts:
            raise CheckpointError(f"{path} lists no shards")
        return Weights({name: tensor for part in parts for name, tensor in part.tensors.items()}, parts[0].kind)
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from error
    if start.startswith(_ZIP) and is_archive(path):
        return Weights(read_archive(path), "archive")
    if start.startswith((_ZIP, _PICKLE)):
        return Weights(_read_torch(path, mapped=start.startswith(_ZIP)), "torch")
    if start[8:9] == b"{":
        return Weights(read_safetensors(path), "safetensors")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` where it came from")
    raise CheckpointError(f"{path} is no weight file: it is neither safetensors nor a torch file")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, memory-mapped. Raises CheckpointError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy or download it again") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError if the file can't be read or holds something else."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__} where an object was expected")
    return values


def first_line(error: BaseException) -> str:
    """What went wrong, short enough for a sentence."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _read_torch(path: Path, mapped: bool) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's doubts about a pickle: it reads or refuses it
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds Python objects besides tensors, so reading it could execute code: refused; "
            "save its state dict alone, best as safetensors"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is damaged ({first_line(error)}); copy or download it again") from error
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The weights inside a training checkpoint, under the names the model had before it was wrapped."""
    for name in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds no state dict but a {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout is not torch.strided:
            raise CheckpointError(f"{path} holds no state dict: {name!r} is not a dense tensor")
    tensors = dict(content)
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors
