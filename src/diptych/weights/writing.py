"""Weights into a file of safetensors', whatever tensors they are."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from diptych.distributed.shards import as_shard
from diptych.errors import CheckpointError
from diptych.weights.mapped import DTYPES

_KINDS = {kind for kind in DTYPES.values() if kind.itemsize > 1 or not kind.is_floating_point}
"""All that are read but floating-point numbers of eight bits, which mean little without a scale."""
Spans = dict[int, list[tuple[int, int]]]
"""Of each storage, by its address, the bytes that are taken."""


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write every tensor under its name. A tensor that has two names is written twice: so each name
    can be read alone.

    Raises CheckpointError for what is no tensor of plain numbers (`writable`), and what safetensors
    raises of the disk.

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from safetensors.torch import load_file
    >>> from diptych.weights.writing import save_tensors
    >>> table = torch.eye(2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.safetensors")
    ...     save_tensors(path, {"head": table, "words": table, "turned": table.T})
    ...     sorted(load_file(path))
    ['head', 'turned', 'words']
    """
    found, taken = dict[str, Tensor](), Spans()
    for name, tensor in tensors.items():
        own = writable(name, tensor).cpu().contiguous()
        found[name] = own if _take(own, taken) else own.clone()
    save_file(found, path, dict(metadata or {}))


def writable(name: str, tensor: Any) -> Tensor:
    """The tensor, without its history. Raises CheckpointError, in one sentence, for what can't be
    written as it is, or not be read again.

    >>> import torch
    >>> from diptych.weights.writing import writable
    >>> writable("scale", torch.zeros(2, device="meta"))
    Traceback (most recent call last):
        ...
    diptych.errors.CheckpointError: scale can't be written: it is on meta, without numbers; load ...
    """
    if reason := unwritable(tensor):
        raise CheckpointError(f"{name} can't be written: {reason}")
    return tensor.detach()


def unwritable(tensor: Any, kinds: Collection[torch.dtype] = _KINDS) -> str:
    """Why it can't be written; empty: it can. `kinds`: of numbers that are read again."""
    if not isinstance(tensor, Tensor):
        return f"it is a {type(tensor).__name__} and no tensor; take it out of the state dict"
    if as_shard(tensor) is not None:
        return "it is one process's shard; put it together first (full_tensor())"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        return "it is sparse, quantised or nested; make it dense (to_dense() or dequantize())"
    if is_traceable_wrapper_subclass(tensor):
        return f"it is a {type(tensor).__name__}; make it a plain tensor (dequantize())"
    if tensor.is_meta:
        return "it is on meta, without numbers; load or initialise it first"
    if tensor.dtype not in kinds:
        return f"it is of {tensor.dtype}, which isn't read again; cast it, or take its parts"
    return ""


def _take(tensor: Tensor, taken: Spans) -> bool:
    """Note the bytes of a contiguous tensor; False: some are another's, too."""
    begin = tensor.data_ptr()
    end = begin + tensor.nbytes
    of_storage = taken.setdefault(tensor.untyped_storage().data_ptr(), [])
    if any(first < end and begin < last for first, last in of_storage):
        return False
    of_storage.append((begin, end))
    return True
