"""NumPy's archives of weights (`.npz`), as big_vision writes them.
https://github.com/google-research/big_vision

    params/img/Transformer/encoderblock_3/MlpBlock_0/Dense_0/kernel     a block's own
    params/img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel       all blocks', [layers, …]

Here a name has dots for the strokes, and each block has its own tensors.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diptych.arrays import NpyHeader, npy_header
from diptych.errors import CheckpointError, first_line
from diptych.weights.state import Lazy, State
from diptych.weights.zipped import DAMAGE, open_zip

_SCANNED = "encoderblock"
"""Of blocks that flax's `nn.scan` made: numbered nowhere, stacked in each array."""
_BFLOAT16 = "V2"
"""NumPy has none: two bytes without a meaning."""


def read_numpy(path: Path) -> State:
    """All arrays of numbers, each read when it is asked for. Raises CheckpointError for a damaged
    file, and for what is no number."""
    found = dict[str, Lazy]()
    with open_zip(path) as file:
        try:
            for entry in file.infolist():
                with file.open(entry) as stream:
                    header = npy_header(stream)
                if entry.file_size != header.start + header.size:
                    raise ValueError(f"{entry.filename} doesn't hold the bytes that it says")
                name = entry.filename.removesuffix(".npy")
                found |= _tensors(name.replace("/", "."), header, partial(_read, path, name))
        except DAMAGE as error:
            raise _damaged(path, error) from error
    return State(found)


def _tensors(name: str, header: NpyHeader, read: Callable[[], Tensor]) -> dict[str, Lazy]:
    """One, or one for each block that it holds."""
    like = torch.empty(header.shape, dtype=_kind(header.dtype), device="meta")
    parts = name.split(".")
    if _SCANNED not in parts or not header.shape:
        return {name: Lazy(like, read)}
    at = parts.index(_SCANNED)
    found = dict[str, Lazy]()
    for layer in range(len(like)):
        own = ".".join([*parts[:at], f"{_SCANNED}_{layer}", *parts[at + 1 :]])
        found[own] = Lazy(like[layer], lambda layer=layer: read()[layer].clone())
    return found


def _kind(dtype: np.dtype) -> torch.dtype:
    if dtype.str.endswith(_BFLOAT16):
        return torch.bfloat16
    return torch.from_numpy(np.empty(0, dtype)).dtype


def _read(path: Path, name: str) -> Tensor:
    with open_zip(path) as file:
        try:
            with file.open(f"{name}.npy") as stream:
                header, data = npy_header(stream), bytearray(stream.read())
        except DAMAGE as error:
            raise _damaged(path, error) from error
    if len(data) != header.size:
        raise _damaged(path, ValueError(f"{name} is cut"))
    if not data:
        return torch.empty(header.shape, dtype=_kind(header.dtype))
    flat = torch.frombuffer(data, dtype=_kind(header.dtype))
    if not header.columns:
        return flat.reshape(header.shape)
    return flat.reshape(header.shape[::-1]).permute(*range(len(header.shape))[::-1])


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is damaged ({first_line(error)}); copy or download it again")
