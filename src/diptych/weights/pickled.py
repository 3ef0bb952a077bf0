"""Tensors out of torch's pickles, by torch's restricted unpickler: nothing that stands in them is
executed.

Training checkpoints hold more than weights; what else torch's unpickler accepts is passed by.
Objects beside the weights (arguments, paths, numpy's numbers, DeepSpeed's own) become empty
stand-ins: their classes are never looked up.
"""

import errno
import os
import pickle
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diptych.errors import CheckpointError, first_line
from diptych.weights.mapped import Reopened
from diptych.weights.state import Lazy, State
from diptych.weights.zipped import DAMAGE, open_zip

_CONTAINERS = (
    "model",
    "module",
    "state_dict",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "params",
    "weights",
)
"""Where training checkpoints keep the weights; EVA's loader tries the first three in this order."""
AVERAGES = (
    "model_ema",
    "state_dict_ema",
    "ema",
    "ema_model",
    "ema_state_dict",
    "model_ema_state_dict",
    "params_ema",
)
"""Where they keep the weights' moving average, which is read where there is nothing else."""
_BESIDE = (
    "optimizer",
    "optimizer_state_dict",
    "optimizer_states",
    "optim",
    "scheduler",
    "lr_scheduler",
    "lr_schedulers",
    "scaler",
    "rng",
    "rng_state",
    "rng_states",
)
"""What may hold tensors by names and is no model."""
_DEPTH = 4
"""Containers inside each other."""
_INNER = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and activation checkpointing put before the names of what they wrap."""
_COUNTER = "n_averaged"
"""Beside the names that torch's AveragedModel wraps, as data-parallel training does."""
_OUTER = re.compile(r"^(module\.)+")
"""What DistributedDataParallel puts before each name."""
_DATA = {
    "argparse",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "pathlib",
    "types",
    "typing",
    "uuid",
    *(f"builtins.{kind}" for kind in ("bool", "dict", "float", "int", "list", "str", "tuple")),
}
"""Modules of the standard library whose objects are data, and such classes. What else of it, or of
torch, a file asks for could run code: such a file is refused, though nothing of it would run."""


class _Inert:
    """Stands for any object: it takes whatever it is given and does nothing."""

    def __new__(cls, *_: Any, **__: Any):
        return super().__new__(cls)

    def __setstate__(self, state: Any):
        pass


class Weights(NamedTuple):
    """What a training checkpoint holds of a model."""

    tensors: Mapping[str, Tensor]
    """Under the names that the model had before it was wrapped."""
    taken: str = ""
    """Which of several versions of the weights this is; empty: there is one."""
    key: str = ""
    """What was asked for, where no state dict has that name."""
    versions: tuple[str, ...] = ()
    """Names of all its state dicts that have one."""


def read_torch(path: Path, mapped: bool, key: str = "") -> Weights:
    """The weights of a `torch.save` file; `mapped` where the file is a zip. `tensors` is a State.
    `key`: which of several state dicts.

    Raises CheckpointError if it is damaged, would execute code, or holds no state dict.
    """
    found = state_dict(load(path, mapped), path, key)
    if not mapped:
        return found._replace(tensors=State.of(found.tensors))
    in_order = sorted(found.tensors.items(), key=lambda item: item[1].data_ptr())
    kept, passing = (Reopened(lambda: dict(state_dict(load(path), path, key)[0])) for _ in range(2))
    state = State(
        {
            name: Lazy(
                tensor.to("meta"),
                partial(_take, kept, name, 0),
                partial(_take, passing, name, tensor.nbytes),
            )
            for name, tensor in in_order
        }
    )
    return found._replace(tensors=state)


def _take(file: Reopened[dict[str, Tensor]], name: str, size: int) -> Tensor:
    return file.take(size)[name]


def load(path: Path, mapped: bool = True) -> Any:
    """What `torch.save` wrote, its tensors on the CPU. Raises CheckpointError as `read_torch`."""
    try:
        return _unpickle(path, mapped)
    except pickle.UnpicklingError as error:
        named = _named_objects(path) if mapped else []
        if not named or not all(map(_is_data, named)):
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


def _is_data(name: str) -> bool:
    """Whether an object of this class may be passed by."""
    package = name.partition(".")[0]
    known = package in sys.stdlib_module_names or package in ("torch", "builtins")
    return not known or bool({package, name} & _DATA)


def state_dict(content: Any, path: Path, key: str = "") -> Weights:
    """The weights inside a training checkpoint: those under `key`, or else under the first of the
    usual names. Raises CheckpointError if there are none, or several under other names."""
    found = dict(_state_dicts(content, ()))
    if not found:
        raise CheckpointError(f"{path} holds no state dict{_instead(content)}")
    named = {".".join(keys): keys for keys in found}
    if asked := named.get(key):
        return Weights(_renamed(found[asked], path))
    first = min(map(_rank, found))
    best = [keys for keys in found if _rank(keys) == first]
    if len(best) > 1:
        names = ", ".join(map(".".join, best))
        raise CheckpointError(
            f"{path} holds several state dicts ({names}); say which: {path}#{'.'.join(best[0])}"
        )
    chosen = found.pop(best[0])
    tensors = _renamed(chosen, path)
    same = (keys for keys, other in found.items() if tensors.keys() & set(map(unwrapped, other)))
    others = [".".join(keys) for keys in same]
    taken = f"{'.'.join(best[0])}, not {', '.join(others)}" if others else ""
    return Weights(tensors, taken, key, tuple(filter(None, named)))


def _state_dicts(
    content: Any, keys: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Tensor]]]:
    """Every mapping of names to dense tensors, and the keys, or places in a list, that lead to
    it."""
    if len(keys) > _DEPTH:
        return
    if isinstance(content, list | tuple):
        for place, value in enumerate(content):
            yield from _state_dicts(value, (*keys, str(place)))
    if not isinstance(content, Mapping) or not content:
        return
    if all(map(_is_weight, content, content.values())):
        yield keys, content
        return
    for key, value in content.items():
        if isinstance(key, str) and key not in _BESIDE:
            yield from _state_dicts(value, (*keys, key))


def _is_weight(name: object, value: object) -> bool:
    dense = isinstance(value, Tensor) and value.layout is torch.strided
    return isinstance(name, str) and dense


def _rank(keys: tuple[str, ...]) -> list[int]:
    """Of several, the lowest is the model."""
    order = (*_CONTAINERS, "", *AVERAGES)
    return [order.index(key if key in order else "") for key in keys]


def _instead(content: Any) -> str:
    if not isinstance(content, Mapping) or not content:
        return f" but a {type(content).__name__}"
    first = next(key for key, value in content.items() if not _is_weight(key, value))
    return f": {first!r} is not a dense tensor"


def _renamed(content: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    size = path.stat().st_size
    for name, tensor in content.items():
        if tensor.nbytes > size:  # one number, repeated
            raise CheckpointError(
                f"{path} is damaged: {name} is of {list(tensor.shape)}, more than the file holds"
            )
    own = {name: tensor for name, tensor in content.items() if name != _COUNTER}
    tensors = {unwrapped(name): tensor.detach() for name, tensor in own.items()}
    if len(tensors) < len(own):
        raise CheckpointError(f"{path} holds the same names with and without a wrapper's prefix")
    return tensors


def unwrapped(name: str) -> str:
    """A parameter's name before its model was wrapped.

    >>> from diptych.weights.pickled import unwrapped
    >>> unwrapped("module.visual.proj"), unwrapped("visual.module.proj")
    ('visual.proj', 'visual.module.proj')
    """
    return _OUTER.sub("", _INNER.sub("", name))


def _unpickle(path: Path, mapped: bool) -> Any:
    if path.name.endswith(".safetensors"):  # torch.load goes by the name
        raise CheckpointError(f"{path} is a torch file by its content; let its name end with .pt")
    if mapped:
        open_zip(path).close()
    try:
        with warnings.catch_warnings():
            # torch's doubts about a pickle: it reads or refuses it.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except DAMAGE as error:
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
    except (pickle.UnpicklingError, *DAMAGE):
        return []
