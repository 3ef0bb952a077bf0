"""open_clip_train's words for the processes that torchrun started.

https://github.com/mlfoundations/open_clip, src/open_clip_train/distributed.py
"""

import warnings
from typing import Any

import torch

from diptych.compat.loading.options import refuse
from diptych.distributed import Peers, join, local_rank, peers_met, started_as
from diptych.errors import AssumptionWarning

_KINDS = ("cuda", "npu", "mps", "cpu")


def is_global_master(args: Any) -> bool:
    """Whether this is the first process of all."""
    return args.rank == 0


def is_local_master(args: Any) -> bool:
    """Whether this is the first process of its machine."""
    return args.local_rank == 0


def is_master(args: Any, local: bool = False) -> bool:
    """Whether this is the first process, of all or of its machine."""
    return is_local_master(args) if local else is_global_master(args)


def is_using_distributed() -> bool:
    """Whether torchrun started several processes. Raises ConfigError as `started_as`."""
    return started_as()[1] > 1


def is_using_horovod() -> bool:
    """Never: torchrun starts processes here."""
    return False


def is_device_available(device: str) -> tuple[bool, bool]:
    """(whether this machine has a device of the kind, whether open_clip knows the kind: `cuda`,
    `npu`, `mps` and `cpu`).

    >>> from diptych.compat.open_clip_train.distributed import is_device_available
    >>> is_device_available("cpu")
    (True, True)
    """
    kind = torch.device(device).type
    found = torch.accelerator.current_accelerator(check_available=True)
    return kind == "cpu" or (found is not None and found.type == kind), kind in _KINDS


def set_device(device: str | torch.device) -> None:
    """Make a GPU the one that is taken where none is said; nothing for the CPU."""
    if torch.device(device).type != "cpu":
        torch.accelerator.set_device_index(torch.device(device).index or 0)


def world_info_from_env() -> tuple[int, int, int]:
    """(rank on this machine, rank, processes) as torchrun says them. Raises ConfigError as
    `started_as`.

    >>> from diptych.compat.open_clip_train.distributed import world_info_from_env
    >>> world_info_from_env()
    (0, 0, 1)
    """
    rank, size = started_as()
    return local_rank(), rank, size


def init_distributed_device(args: Any) -> torch.device:
    """Meet the other processes; `device`, `rank`, `local_rank`, `world_size` and `distributed` of
    `args` say what was found. Raises ConfigError as `init_distributed_device_so`."""
    asked = vars(args)
    found = init_distributed_device_so(asked.get("device", "cuda"))
    args.device, args.rank = found["device"], found["global_rank"]
    args.local_rank, args.world_size = found["local_rank"], found["world_size"]
    args.distributed = found["distributed"]
    return torch.device(args.device)


def init_distributed_device_so(
    device: str = "cuda",
    dist_backend: str | None = None,
    dist_url: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The same of a device's name. Processes meet as torchrun says, over NCCL on GPUs and Gloo
    elsewhere, whatever `dist_backend` and `dist_url`. `cuda`, `mps` and `npu` are the CPU where
    there is none, with a warning. Raises ConfigError where processes were started in another way,
    and for `horovod` and `no_set_device_rank`.

    >>> from diptych.compat.open_clip_train.distributed import init_distributed_device_so
    >>> init_distributed_device_so("cpu")["world_size"]
    1
    """
    refuse(options)
    kind = device.partition(":")[0]
    available, known = is_device_available(kind)
    if known and not available:
        said = f"there is no GPU for device={device!r}: the CPU is taken"
        warnings.warn(said, AssumptionWarning, stacklevel=2)
        device = kind = "cpu"
    alone = not is_using_distributed()
    peers = Peers(device=torch.device(device)) if alone else join(kind)
    return {
        "device": str(peers.device),
        "global_rank": peers.rank,
        "local_rank": peers.rank % peers.per_node,
        "world_size": peers.size,
        "distributed": not alone,
    }


def all_gather_object(args: Any, obj: Any, dst: int = 0) -> list[Any]:
    """An object of each process, in rank order, on all of them; they are pickled."""
    return _peers(args).all_gather_objects(obj)


def broadcast_object(args: Any, obj: Any, src: int = 0) -> Any:
    """The object of process `src`, on all of them; it is pickled."""
    mine = obj if args.rank == src else None
    return _peers(args).all_gather_objects(mine)[src]


def _peers(args: Any) -> Peers:
    return peers_met(args.rank, args.world_size, torch.device(args.device))
