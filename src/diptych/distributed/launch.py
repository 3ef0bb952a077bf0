"""Joining the other processes that `torchrun` started, or being the only one."""

import contextlib
import datetime
import os
from collections.abc import Generator

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from diptych.distributed.batchnorm import share_batch_statistics
from diptych.distributed.peers import Peers
from diptych.errors import ConfigError


@contextlib.contextmanager
def connect(device: str = "") -> Generator[Peers, None, None]:
    """The peers of this process, for as long as the block lasts.

    Under `torchrun` (RANK, WORLD_SIZE and LOCAL_RANK are set) the processes meet over NCCL on GPUs
    and Gloo on CPUs. Otherwise this process is alone. `device`: `cuda`, `cpu`, ...; empty takes the
    GPU if there is one.

    >>> from diptych.distributed import connect
    >>> with connect("cpu") as peers:
    ...     peers.size
    1
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device(kind, local_rank) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local_rank} of this machine has no GPU of its own: "
                f"there are {torch.cuda.device_count()}; start at most as many processes "
                "(torchrun --nproc-per-node)"
            )
        torch.cuda.set_device(place)
    if dist.is_initialized():
        yield Peers(dist.get_rank(), dist.get_world_size(), place)
        return
    if "RANK" not in os.environ:
        yield Peers(device=place)
        return
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo", timeout=datetime.timedelta(hours=1)
    )
    try:
        yield Peers(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()


def refuse_lone_tasks() -> None:
    """Raises ConfigError under `srun` with several tasks and no `torchrun`: each would be a run of
    its own, and all would write into one folder."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS") or "1"
    if "RANK" not in os.environ and tasks.isdigit() and int(tasks) > 1:
        raise ConfigError(
            f"Slurm started {tasks} tasks, which don't know of each other: start one a node that "
            "runs torchrun (srun --ntasks-per-node 1 torchrun ... -m diptych train ...), or train "
            "in a single task"
        )


def data_parallel(module: nn.Module, peers: Peers) -> nn.Module:
    """`module` with its gradients averaged, and its batch statistics taken, over the peers; itself
    when alone.

    >>> from torch import nn
    >>> from diptych.distributed import Peers, data_parallel
    >>> data_parallel(nn.Linear(2, 3), Peers())
    Linear(in_features=2, out_features=3, bias=True)
    """
    if peers.size == 1:
        return module
    share_batch_statistics(module, peers)
    devices = [peers.device] if peers.device.type == "cuda" else None
    # Shared statistics are equal everywhere already: no buffers need to travel.
    return DistributedDataParallel(
        module, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def unsynchronised(wrapped: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Within this context backward passes of what `data_parallel` gave add up here, and aren't
    averaged yet: for all micro-batches of a step but the last.

    >>> from torch import nn
    >>> from diptych.distributed import Peers, data_parallel, unsynchronised
    >>> with unsynchronised(data_parallel(nn.Linear(2, 3), Peers())):
    ...     pass
    """
    return (
        wrapped.no_sync()
        if isinstance(wrapped, DistributedDataParallel)
        else contextlib.nullcontext()
    )
