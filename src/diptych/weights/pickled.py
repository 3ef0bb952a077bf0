"""Tensors out of torch's pickles, by torch's restricted unpickler: nothing that stands in them is
executed.

Training checkpoints hold more than weights; what else torch's unpickler accepts is passed by.
DeepSpeed pickles objects of its own beside the weights: they become empty stand-ins.
"""

import errno
import os
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.errors import CheckpointError, first_line
from diptych.weights.mapped import Reopened
from diptych.weights.state import Lazy, State

_CONTAINERS = ("model", "module", "state_dict", "model_ema")
"""Where training checkpoints keep the weights; EVA's loader tries the first three in this order."""
_DEPTH = 4
"""Containers inside each other."""
_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")
"""What DistributedDataParallel and torch.compile put before each name."""
_DAMAGE = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)
"""What torch raises over bytes that nobody wrote on purpose."""
_INERT = "deepspeed."
"""Objects of this package become stand-ins."""


class _Inert:
    """Stands for any object of `_INERT`: it takes whatever it is given and does nothing."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def __setstate__(self, state: Any):
        pass


def read_torch(path: Path, mapped: bool) -> State:
    """The weights of a `torch.save` file, under the names that the model had before it was wrapped;
    `mapped` where the file is a zip.

    Raises CheckpointError if it is damaged, would execute code, or holds no state dict.
    """
    tensors = state_dict(load(path, mapped), path)
    if not mapped:
        return State.of(tensors)
    in_order = sorted(tensors.items(), key=lambda item: item[1].data_ptr())
    kept, passing = (Reopened(lambda: state_dict(load(path), path)) for _ in range(2))
    return State(
        {
            name: Lazy(
                tensor.to("meta"),
                partial(_take, kept, name, 0),
                partial(_take, passing, name, tensor.nbytes),
            )
            for name, tensor in in_order
        }
    )


def _take(file: Reopened[dict[str, Tensor]], name: str, size: int) -> Tensor:
    return file.take(size)[name]


def load(path: Path, mapped: bool = True) -> Any:
    """What `torch.save` wrote, its tensors on the CPU. Raises CheckpointError as `read_torch`."""
    try:
        return _unpickle(path, mapped)
    except pickle.UnpicklingError as error:
        named = _named_objects(path) if mapped else []
        if not named or not all(name.startswith(_INERT) for name in named):
            what = f" ({', '.join(named[:3])})" if named else ""
            raise CheckpointError(
                f"{path} holds Python objects besides tensors{what}, so reading it could execute "
                "code: refused; save its state dict alone, best as safetensors"
            ) from error
    with torch.serialization.safe_globals([(_Inert, name) for name in named]):
        try:
            return _unpickle(path, mapped)
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                f"{path} asks for more than tensors, so it could execute code: refused"
            ) from error


def state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The weights inside a training checkpoint. Raises CheckpointError if there are none."""
    for _ in range(_DEPTH):
        if isinstance(content, Mapping):
            inner = (
                content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)
            )
            content = next(inner, content)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds no state dict but a {type(content).__name__}")
    for name, value in content.items():
        if (
            not isinstance(name, str)
            or not isinstance(value, Tensor)
            or value.layout is not torch.strided
        ):
            raise CheckpointError(f"{path} holds no state dict: {name!r} is not a dense tensor")
    tensors = {unwrapped(name): tensor.detach() for name, tensor in content.items()}
    if len(tensors) < len(content):
        raise CheckpointError(f"{path} holds the same names with and without a wrapper's prefix")
    return tensors


def unwrapped(name: str) -> str:
    """A parameter's name before its model was wrapped.

    >>> from diptych.weights.pickled import unwrapped
    >>> unwrapped("module.visual.proj"), unwrapped("visual.module.proj")
    ('visual.proj', 'visual.module.proj')
    """
    return _WRAPPERS.sub("", name)


def _unpickle(path: Path, mapped: bool) -> Any:
    try:
        with warnings.catch_warnings():
            # torch's doubts about a pickle: it reads or refuses it.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except _DAMAGE as error:
        if os.strerror(errno.ENOMEM) in str(error):  # torch keeps no number of the system's error
            raise CheckpointError(
                f"{path} is larger than this system maps; "
                "let it (`sysctl vm.overcommit_memory=1`), "
                "or convert the weights to safetensors elsewhere"
            ) from error
        raise CheckpointError(
            f"{path} is damaged ({first_line(error)}); copy or download it again"
        ) from error


def _named_objects(path: Path) -> list[str]:
    """Functions and classes that a zip's pickle names and torch doesn't know as harmless."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (pickle.UnpicklingError, *_DAMAGE):
        return []
