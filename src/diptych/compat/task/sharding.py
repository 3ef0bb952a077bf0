"""A task's model in shards over the processes that have met, and its state whole again."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diptych.compat.faces.face import OpenClipModel
from diptych.config import ShardConfig
from diptych.distributed import (
    Parts,
    data_parallel,
    met,
    shard_like,
    spread_like,
    whole,
    whole_within,
)
from diptych.errors import ConfigError


class Blocks(NamedTuple):
    """What is gathered one at a time."""

    units: list[nn.Module]

    def set_checkpointing(self, on: bool = True) -> None:
        """Nothing: models are told themselves."""


def shard_config(
    reshard: bool, mp_policy: Any, offload_policy: Any, mesh: Any, size: int
) -> ShardConfig:
    """What torch's words for FSDP2 mean here. Raises ConfigError for a mesh of other than all
    processes, and for blocks in float16."""
    if mesh is not None and tuple(mesh.shape) != (size,):
        raise ConfigError(
            f"prepare_fsdp(mesh=...) of {tuple(mesh.shape)}: all {size} processes share the "
            "parameters in one row; leave it out"
        )
    kind = None if mp_policy is None else mp_policy.param_dtype
    if kind not in (None, torch.float32, torch.bfloat16):
        raise ConfigError(
            f"prepare_fsdp(mp_policy=...) with param_dtype {kind}: blocks are gathered in float32 "
            "or bfloat16"
        )
    return ShardConfig(
        mode="zero3" if reshard else "zero2",
        precision="bf16" if kind == torch.bfloat16 else "fp32",
        offload=offload_policy is not None,
    )


def shard(model: nn.Module, blocks: Sequence[nn.Module], config: ShardConfig) -> None:
    """Leave each process a share of every parameter. A call of the model, and of its `encode_image`
    and `encode_text`, sees all of it."""
    _widen(model)
    peers = met(next(model.parameters()).device)
    data_parallel(model, peers, config, Parts((Blocks(list(blocks)),)))
    whole_within(model, ("encode_image", "encode_text"))


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's state dict of whole tensors, with single numbers as they are in a file. Every
    process calls it."""
    found = dict[str, Tensor]()
    for name, tensor in model.state_dict().items():
        all_of_it = whole(tensor).detach()
        found[name] = all_of_it.squeeze(0) if all_of_it.shape == (1,) else all_of_it
    return found


def load_whole_state(model: nn.Module, state: Mapping[str, Tensor], strict: bool) -> None:
    """`load_state_dict` of whole tensors, into shards."""
    own = model.state_dict()
    parts = {
        name: spread_like(own[name], tensor) if name in own else tensor
        for name, tensor in state.items()
    }
    model.load_state_dict(parts, strict=strict)


def whole_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """The state of an optimiser, of whole tensors. Every process calls it."""
    said = optimizer.state_dict()
    state = {
        place: {name: _whole(value) for name, value in each.items()}
        for place, each in said["state"].items()
    }
    return said | {"state": state}


def load_whole_optimizer(optimizer: Optimizer, said: Mapping[str, Any]) -> None:
    """Take what `whole_optimizer` gave, into shards where the parameters are some."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    state = dict[int, Any]()
    for place, each in said["state"].items():
        state[place] = {name: _beside(parameters[place], value) for name, value in each.items()}
    optimizer.load_state_dict({**said, "state": state})


def _beside(parameter: Tensor, value: Any) -> Any:
    return shard_like(parameter, value) if isinstance(value, Tensor) else value


def _whole(value: Any) -> Any:
    return whole(value) if isinstance(value, Tensor) else value


def _widen(model: nn.Module) -> None:
    """Give numbers a dimension, along which they can be shared."""
    if isinstance(model, OpenClipModel):
        model.reshape_scale(1)
        return
    wide: dict[Tensor, nn.Parameter] = {}  # of one that has several names, one
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 0:
                made = nn.Parameter(parameter.detach()[None], parameter.requires_grad)
                setattr(module, name, wide.setdefault(parameter, made))
