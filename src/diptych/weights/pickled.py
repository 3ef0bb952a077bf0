"""Tensors out of torch's pickles, by torch's restricted unpickler: nothing that stands in them is
executed.

Training checkpoints hold more than weights; what else torch's unpickler accepts is passed by, and
objects beside the weights become empty `stand_ins`.
"""

import errno
import os
import pickle
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diptych.errors import CheckpointError, first_line
from diptych.weights import stand_ins
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
    "optimizer_state",
    "optim",
    "optim_state",
    "hyper_parameters",
    "scheduler",
    "lr_scheduler",
    "lr_schedulers",
    "scaler",
    "rng",
    "rng_state",
    "rng_states",
)
"""What may hold tensors by names and is no model."""
_NO_MODEL = {
    "param_groups": "an optimizer's state; the weights lie in another file",
    "shadow_params": (
        "a moving average without the names of its parameters (shadow_params); copy it into the "
        "model, and save the model's state dict"
    ),
}
"""What else is saved alone, by a name that tells it."""
_NOTE = (bool, int, float, str, NoneType)
"""What some keep between the weights: an epoch, a name."""
_DEPTH = 4
"""Containers inside each other."""
_INNER = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|base_layer)\.")
"""What torch.compile, FSDP, activation checkpointing and PEFT put before the names of what they
wrap."""
_SHARDED = "torch.distributed.tensor.DTensor"
"""What a process holds of a weight that is shared out."""
_COUNTER = "n_averaged"
"""Beside the names that torch's AveragedModel wraps, as data-parallel training does."""
_OUTER = re.compile(r"^(module\.)+")
"""What DistributedDataParallel puts before each name."""


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
        named = stand_ins.find(path, zipped=mapped)
        unsafe = [name for name in named if not stand_ins.is_data(name)]
        if unsafe or not named:
            raise CheckpointError(_refused(path, unsafe)) from error
    with torch.serialization.safe_globals([(inert, name) for name, inert in named.items()]):
        try:
            return _unpickle(path, mapped)
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                f"{path} asks for more than tensors, so it could execute code: refused"
            ) from error


def _refused(path: Path, named: list[str]) -> str:
    if _SHARDED in named:
        return (
            f"{path} holds one process's part of each weight (DTensor): gather them, by "
            "get_model_state_dict with full_state_dict=True, and save that"
        )
    what = f" ({', '.join(named[:3])})" if named else ""
    return (
        f"{path} holds Python objects besides tensors{what}, so reading it could execute code: "
        "refused; save its state dict alone, best as safetensors"
    )


def state_dict(content: Any, path: Path, key: str = "") -> Weights:
    """The weights inside a training checkpoint: those under `key`, or else under the first of the
    usual names. Raises CheckpointError if there are none, or several under other names."""
    found = dict(_state_dicts(content, ())) or dict(_state_dicts(content, (), with_notes=True))
    if not found:
        raise CheckpointError(f"{path} holds no state dict{_instead(content)}")
    named = {".".join(keys): keys for keys in found}
    container = _container(key, named)
    if asked := named.get(container):
        inner = key.removeprefix(container).removeprefix(".")
        return Weights(_renamed(found[asked], path), key=inner)
    first = min(map(_rank, found))
    best = [keys for keys in found if _rank(keys) == first]
    if len(best) > 1:
        names = ", ".join(map(".".join, best))
        raise CheckpointError(
            f"{path} holds several state dicts ({names}); say which: {path}#{'.'.join(best[0])}"
        )
    chosen = found.pop(best[0])
    tensors = _renamed(chosen, path)
    same = (
        keys
        for keys, other in found.items()
        if set(keys) & set(AVERAGES) or tensors.keys() & set(map(unwrapped, other))
    )
    others = [".".join(keys) for keys in same]
    taken = f"{'.'.join(best[0])}, not {', '.join(others)}" if others else ""
    return Weights(tensors, taken, key, tuple(filter(None, named)))


def _container(key: str, named: Collection[str]) -> str:
    """Of what is asked for the container, behind which a prefix of names may stand."""
    inside = [each for each in named if each and f"{key}.".startswith(f"{each}.")]
    return max(inside, key=len, default="")


def _state_dicts(
    content: Any, keys: tuple[str, ...], with_notes: bool = False
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Tensor]]]:
    """Every mapping of names to dense tensors, and the keys, or places in a list, that lead to it.
    `with_notes`: also those that have numbers, texts or nothing under some names."""
    if len(keys) > _DEPTH:
        return
    if isinstance(content, list | tuple):
        for place, value in enumerate(content):
            yield from _state_dicts(value, (*keys, str(place)), with_notes)
    if not isinstance(content, Mapping) or not content:
        return
    noted = {name for name, value in content.items() if with_notes and isinstance(value, _NOTE)}
    weights = {name: value for name, value in content.items() if name not in noted}
    if weights and all(map(_is_weight, weights, weights.values())):
        yield keys, weights
        return
    for key, value in content.items():
        if isinstance(key, str) and key not in _BESIDE:
            yield from _state_dicts(value, (*keys, key), with_notes)


def _is_weight(name: object, value: object) -> bool:
    dense = isinstance(value, Tensor) and value.layout is torch.strided
    return isinstance(name, str) and dense


def _rank(keys: tuple[str, ...]) -> list[int]:
    """Of several, the lowest is the model."""
    order = (*_CONTAINERS, "", *AVERAGES)
    return [order.index(key if key in order else "") for key in keys]


def _instead(content: Any) -> str:
    if isinstance(content, stand_ins.Inert):
        return " but an object of a program's"
    if not isinstance(content, Mapping) or not content:
        return f" but a {type(content).__name__}"
    for key, what in _NO_MODEL.items():
        if key in content:
            return f" but {what}"
    first = next(key for key, value in content.items() if not _is_weight(key, value))
    return f": {first!r} is not a dense tensor"


def _renamed(content: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    size = path.stat().st_size
    for name, tensor in content.items():
        if tensor.is_meta:
            raise CheckpointError(
                f"{path} holds no numbers of {name}: it was saved from the meta device, before the "
                "model had its weights, or while they were elsewhere"
            )
        if tensor.is_quantized:
            raise CheckpointError(
                f"{path} holds quantised weights ({name}); save the model from before it was "
                "quantised"
            )
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
