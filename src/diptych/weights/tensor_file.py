"""A safetensors file that is written in parts, by one process or by several at once: where each
tensor lies in it is settled first, and nothing is put together in memory.

https://huggingface.co/docs/safetensors#format
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.durable import naming
from diptych.weights.mapped import DTYPES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def create(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Make the file, with room for `tensors`, which may be on `meta`: of each, the byte at which it
    begins. Raises OSError.

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from safetensors.torch import load_file
    >>> from diptych.weights.tensor_file import create, put
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.safetensors")
    ...     places = create(path, {"a": torch.empty(3, dtype=torch.int64, device="meta")})
    ...     put(path, [(places["a"], torch.tensor([1, 2])), (places["a"] + 16, torch.tensor([3]))])
    ...     load_file(path)
    {'a': tensor([1, 2, 3])}
    """
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    places, end = dict[str, int](), 0
    # As safetensors orders them: every number then lies at a multiple of its own size.
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):
        tensor, begin = tensors[name], end
        end += tensor.nbytes
        entries[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        places[name] = begin
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    first = 8 + len(header)
    with naming(path), open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(first + end)
    return {name: first + place for name, place in places.items()}


def put(path: Path, parts: Iterable[tuple[int, Tensor]]) -> None:
    """Write contiguous tensors of the CPU into a file that is there, each from a byte on. They are
    on the disk when this returns. Raises OSError.
    """
    with naming(path), open(path, "r+b") as file:
        for place, tensor in parts:
            file.seek(place)
            file.write(tensor.view(-1).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
