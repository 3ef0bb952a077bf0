"""How a module is spread over the processes: copies, or shards that are gathered when they are
needed (FSDP2, https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html).

What runs within a call of the wrapped module sees whole parameters; everywhere else each process
has its shards (`distributed/shards.py`).
"""

import contextlib
import warnings
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

# The common base of BatchNorm1d, 2d and 3d has no public name.
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.parallel import DistributedDataParallel

from diptych.config import ShardConfig
from diptych.distributed.batchnorm import share_batch_statistics
from diptych.distributed.peers import Peers
from diptych.distributed.shards import fill
from diptych.distributed.ties import tie, ties_of
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_WHOLE = ShardConfig()
GRAPHS = 32
"""Compiled graphs of a class of blocks, beyond which something must be wrong."""


class Part(Protocol):
    """A tower or a decoder, as far as it matters here."""

    @property
    def units(self) -> list[nn.Module]:
        """The modules that are gathered, recomputed and compiled one at a time."""
        raise NotImplementedError

    def set_checkpointing(self, on: bool = True) -> None:
        """Recompute the blocks' activations in the backward pass."""


class Parts(NamedTuple):
    """The towers and the decoder of a module; which of them recompute their activations; and
    whether their blocks are compiled."""

    towers: Sequence[Part]
    checkpointed: Sequence[Part] = ()
    compile: bool = False
    varying: Sequence[Part] = ()
    """Those whose inputs differ in length from call to call: one graph serves all of them."""


_NO_PARTS = Parts(())


def data_parallel(
    module: nn.Module, peers: Peers, config: ShardConfig = _WHOLE, parts: Parts = _NO_PARTS
) -> nn.Module:
    """`module` with its batch statistics taken and its gradients averaged over the peers, and its
    parameters sharded if `config` says so.

    What it gives is called in place of the module: parameters are whole within. With `zero2` and
    `zero3` it is the module itself, whose parameters are shards from here on; an optimiser has to
    be made of them. On processes where the module is on `meta`, and only there, it may have no
    numbers: the first process's count, and go to the others' shards one tensor at a time.

    Raises ConfigError where `config` and the processes don't fit.

    >>> from torch import nn
    >>> from diptych.distributed import Peers, data_parallel
    >>> data_parallel(nn.Linear(2, 3), Peers())
    Linear(in_features=2, out_features=3, bias=True)
    """
    # One order: what changes modules comes before what wraps their calls, and the inner wrappers
    # before the outer. Gathering is outermost: what is recomputed or compiled sees whole weights.
    if peers.size > 1:
        share_batch_statistics(module, peers)
    for tower in parts.checkpointed:
        tower.set_checkpointing(True)
    if parts.compile:
        _compile(parts)
    if peers.size == 1:
        return module
    if config.mode == "replicate":
        devices = [peers.device] if peers.device.type == "cuda" else None
        # Shared statistics are equal everywhere already: no buffers need to travel.
        with warnings.catch_warnings():
            # The name that takes its place isn't there in torch 2.9.
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            return DistributedDataParallel(
                module, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
            )
    _shard(module, peers, config, parts)
    return module


def _compile(parts: Parts) -> None:
    from torch._dynamo import config  # takes a second

    # All blocks of a class share their graphs: with and without gradient, the last block's, those
    # of both towers. torch takes eight for too many, and would go on uncompiled; `fullgraph` makes
    # that, and whatever else can't be compiled, an error.
    config.recompile_limit = max(config.recompile_limit, GRAPHS)
    for tower in parts.towers:
        varies = any(tower is each for each in parts.varying)
        for block in tower.units:
            block.compile(fullgraph=True, dynamic=True if varies else None)


def _shard(module: nn.Module, peers: Peers, config: ShardConfig, parts: Parts) -> None:
    # FSDP takes a second to import.
    from torch.distributed.fsdp import (
        CPUOffloadPolicy,
        MixedPrecisionPolicy,
        OffloadPolicy,
        fully_shard,
    )

    # The numbers wait aside, and nothing is moved whole to a GPU but one tensor after the other.
    numbers = dict(module.named_parameters()) | dict(module.named_buffers())
    numbers = {name: tensor.detach() for name, tensor in numbers.items()}
    ties = ties_of(module, [block for tower in parts.towers for block in tower.units])
    module.to("meta")
    tie(module, ties)
    for parameter in module.parameters():  # FSDP knows no other order of the axes (channels last)
        parameter.data = parameter.data.contiguous()
    mesh = _mesh(peers, config)
    offload = config.offload and peers.device.type != "cpu"
    offload_policy = CPUOffloadPolicy() if offload else OffloadPolicy()
    kept = MixedPrecisionPolicy()
    lower = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for tower in parts.towers:
        for block in dict.fromkeys(tower.units):
            # What isn't trained has no backward pass for which it should be kept.
            trained = any(parameter.requires_grad for parameter in block.parameters())
            # Running statistics are kept in float32, and so must be what is beside them.
            low = config.precision == "bf16" and not _batch_norms(block)
            fully_shard(
                block,
                mesh=mesh,
                reshard_after_forward=config.mode == "zero3" or not trained,
                mp_policy=lower if low else kept,
                offload_policy=offload_policy,
            )
    # The rest, which includes the scales and the heads, keeps its precision. It is needed first in
    # the forward pass and last in the backward one: gathering it twice would gain nothing.
    fully_shard(module, mesh=mesh, reshard_after_forward=False, offload_policy=offload_policy)
    module.to_empty(device="cpu" if offload else peers.device)
    tie(module, ties)
    _fill_from_main(module, numbers, peers)


def whole_within(module: nn.Module, methods: Sequence[str]) -> None:
    """Within calls of these methods, too, see whole parameters where `data_parallel` made shards of
    the module's; those that it doesn't have are passed over.

    >>> from torch import nn
    >>> from diptych.distributed import whole_within
    >>> whole_within(nn.Linear(2, 3), ["encode_text"])
    """
    from torch.distributed.fsdp import register_fsdp_forward_method

    for name in methods:
        if name in dir(module):
            register_fsdp_forward_method(module, name)


def _batch_norms(block: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in block.modules())


def _mesh(peers: Peers, config: ShardConfig) -> "DeviceMesh":
    """The processes in a row, or, with `nodes`, a row for each machine: [copies, shards]."""
    from torch.distributed.device_mesh import init_device_mesh

    kind = peers.device.type
    if not config.nodes:
        return init_device_mesh(kind, (peers.size,), mesh_dim_names=("shard",))
    counts = sorted(set(peers.all_gather_objects(peers.per_node)))
    each = counts[0]
    if len(counts) > 1 or each < 2:
        raise ConfigError(
            "--shard.nodes needs equally many processes, at least 2, on every machine; there are "
            f"{' and '.join(map(str, counts))}"
        )
    shape = (peers.size // each, each)
    return init_device_mesh(kind, shape, mesh_dim_names=("copy", "shard"))


@torch.no_grad()
def _fill_from_main(module: nn.Module, numbers: dict[str, Tensor], peers: Peers) -> None:
    """Give `module` the first process's `numbers`."""
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    assert own.keys() == numbers.keys()
    for name, target in own.items():
        found = numbers[name]
        if peers.is_main:
            tensor = found.to(peers.device).contiguous()
        else:
            tensor = torch.empty(found.shape, dtype=found.dtype, device=peers.device)
        # As bytes: not every backend sends every type.
        dist.broadcast(tensor.view(-1).view(torch.uint8), src=0)
        if isinstance(target, nn.Parameter):
            fill(target, tensor)
        else:  # buffers are whole everywhere, on the device also where parameters are offloaded
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, tensor)


@contextlib.contextmanager
def unsynchronised(wrapped: nn.Module) -> Generator[None, None, None]:
    """Within, backward passes of what `data_parallel` gave may add up here, and needn't be averaged
    yet: for all micro-batches of a step but the last.

    Shards are reduced in every backward pass: gradients that add up would have to be whole.

    >>> from torch import nn
    >>> from diptych.distributed import Peers, data_parallel, unsynchronised
    >>> with unsynchronised(data_parallel(nn.Linear(2, 3), Peers())):
    ...     pass
    """
    if isinstance(wrapped, DistributedDataParallel):
        with wrapped.no_sync():
            yield
    else:
        yield
