"""Models out of weights, one tensor at a time: nothing is ever there twice.

A model is built on `meta`, without numbers. Each tensor is made from its file, checked, cast and
moved where needed, and put in its place before the next one is made. A matrix that needs neither
stays mapped from the file.
"""

import math
from collections.abc import Callable, Collection
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from diptych import models
from diptych.config import ClipConfig, ImageTowerConfig
from diptych.errors import CheckpointError, first_line
from diptych.models import Clip, Tower
from diptych.weights.mapping import check_fit
from diptych.weights.progress import counted
from diptych.weights.state import State

M = TypeVar("M", bound=nn.Module)
SHOWN = 1 << 30
"""Bytes from which on a bar is shown."""
SMALL = 1 << 20
"""Bytes up to which a tensor is copied though it needn't be: a mapping for each would be many."""


def assemble(
    state: State,
    config: ClipConfig,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    progress: bool = False,
) -> Clip:
    """A model in evaluation mode that holds these very tensors, which are taken out of `state`.

    The towers are in `dtype` (None: float32); the scale and the bias of the logits are always in
    float32. Raises CheckpointError for names or shapes that don't fit the configuration, for values
    that aren't finite, and for a scale that is none.
    """
    model = _built(partial(models.build, config, device="meta"))
    check_fit(state.shapes, model.state_dict())
    embed_dim = config.embed_dim if config.projected else None
    model.image, model.text = (_filled(tower, embed_dim) for tower in (model.image, model.text))
    exact = {name for name, _ in model.named_parameters(recurse=False)}
    fill(model, state, device=device, dtype=dtype or torch.float32, exact=exact, progress=progress)
    check_scale(model.logit_scale.item())
    return model.to(device).eval()


def assemble_tower(
    state: State,
    config: ImageTowerConfig,
    embed_dim: int | None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    progress: bool = False,
) -> Tower[Any]:
    """A tower alone, as `assemble` makes a model; `embed_dim` None: without projection."""
    tower = _built(partial(models.build_tower, config, embed_dim, "meta"))
    check_fit(state.shapes, tower.state_dict())
    tower = _filled(tower, embed_dim)
    fill(tower, state, device=device, dtype=dtype or torch.float32, progress=progress)
    return tower.to(device).eval()


def fill(
    module: nn.Module,
    state: State,
    *,
    device: str | torch.device,
    dtype: torch.dtype,
    exact: Collection[str] = (),
    progress: bool = False,
) -> None:
    """Moves every tensor of `state` into `module`, in the order of the file. Names in `exact`
    become float32."""
    places = dict(module.named_parameters(remove_duplicate=False)) | dict(
        module.named_buffers(remove_duplicate=False)
    )
    likes = {name: lazy.like for name, lazy in state.lazies.items()}
    total = sum(like.nbytes for like in likes.values())
    bar = counted("weights", total) if progress and total > SHOWN else nullcontext(_unseen)
    with bar as advance, torch.no_grad():
        for name, like in likes.items():
            wanted = _wanted(like, torch.float32 if name in exact else dtype)
            copied = (
                like.dtype != wanted or torch.device(device).type != "cpu" or like.nbytes < SMALL
            )
            tensor = state.pop(name, once=copied)
            check_values(name, tensor, wanted)
            _put(module, name, places[name], tensor.to(device, wanted, copy=copied))
            advance(like.nbytes)


def _unseen(size: int) -> None:
    """Where no bar is shown."""


def check_scale(logit_scale: float) -> None:
    """Raises CheckpointError for a logarithm whose factor float32 can't hold: similarities would
    have no finite logits."""
    if not logit_scale < math.log(torch.finfo(torch.float32).max):
        raise CheckpointError(
            f"logit_scale is {logit_scale:g}, the logarithm of a factor that no float32 holds; if "
            "that is the factor itself, store its logarithm (of 100: 4.6052)"
        )


def check_values(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    """Raises CheckpointError unless every number of a parameter is finite, also when it is cast to
    `dtype`."""
    if not tensor.is_floating_point() or not tensor.numel():
        return
    if tensor.itemsize == 1:
        raise CheckpointError(
            f"{name} is of {tensor.dtype}; weights are read in 16, 32 and 64 bits"
        )
    low, high = torch.aminmax(tensor)  # NaN passes through; no array of flags is made
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise CheckpointError(f"{name} holds values that aren't finite (NaN or infinity)")
    if max(-low.item(), high.item()) > torch.finfo(dtype).max:
        raise CheckpointError(
            f"{name} holds values too large for {dtype}; load it in bfloat16 or float32"
        )


def _wanted(like: Tensor, dtype: torch.dtype) -> torch.dtype:
    return dtype if like.is_floating_point() else like.dtype


def _put(module: nn.Module, name: str, place: Tensor, tensor: Tensor) -> None:
    if not place.is_meta:
        place.copy_(tensor)
        return
    if tensor.stride() != place.stride():  # some towers lay their kernels out in another order
        tensor = torch.empty_like(place, device=tensor.device, dtype=tensor.dtype).copy_(tensor)
    owner, _, leaf = name.rpartition(".")
    if isinstance(place, nn.Parameter):
        tensor = nn.Parameter(tensor, requires_grad=place.requires_grad)
    setattr(module.get_submodule(owner), leaf, tensor)


def _built(build: Callable[[], M]) -> M:
    try:
        return build()
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"its configuration can't be built ({first_line(error)})") from error


def _filled(tower: Tower[Any], embed_dim: int | None) -> Tower[Any]:
    """The tower; one of another library, which computes tables when it is built or shares
    parameters, with numbers."""
    stored = tower.state_dict()
    computed = any(name not in stored for name, _ in tower.named_buffers())
    shared = len(list(tower.named_parameters(remove_duplicate=False))) > len(
        list(tower.parameters())
    )
    return models.build_tower(tower.config, embed_dim, "cpu") if computed or shared else tower
