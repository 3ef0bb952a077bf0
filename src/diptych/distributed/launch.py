"""Joining the other processes that `torchrun` started, or being the only one."""

import atexit
import contextlib
import datetime
import os
from collections.abc import Generator
from dataclasses import replace

import torch
import torch.distributed as dist
from torch.distributed import (
    PrefixStore,  # pyright: ignore[reportPrivateImportUsage]: documented, and not exported
)
from torch.distributed.rendezvous import rendezvous

from diptych.distributed.peers import Peers
from diptych.distributed.watch import Watch, attempt, open_store
from diptych.errors import ConfigError, first_line
from diptych.interrupts import listening

_MEETING = datetime.timedelta(minutes=10)
"""In which all processes have to come."""
_COLLECTIVE = datetime.timedelta(hours=1)
"""One process may score for long while the others wait; a lost one is noticed by the watch."""
_ECHO = 3.0
"""Seconds within which torchrun passes on what the whole group was sent."""


@contextlib.contextmanager
def connect(device: str = "") -> Generator[Peers, None, None]:
    """The peers of this process, for as long as the block lasts.

    Under `torchrun` (RANK, WORLD_SIZE and LOCAL_RANK are set) the processes meet over NCCL on GPUs
    and Gloo on CPUs. Otherwise this process is alone. `device`: `cuda`, `cpu`, ...; empty takes the
    GPU if there is one.

    The loss of a process, or an error in one, ends the block in all with Interrupted. Raises
    ConfigError where processes were started that can't find each other.

    >>> from diptych.distributed import connect
    >>> with connect("cpu") as peers:
    ...     peers.size
    1
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    place = _place(kind)
    per_node = _number("LOCAL_WORLD_SIZE", 1)
    if dist.is_initialized():
        yield Peers(dist.get_rank(), dist.get_world_size(), place, per_node)
        return
    rank, size = started_as()
    if size == 1:
        yield Peers(device=place)
        return
    with listening() as interrupts:
        interrupts.echo = _ECHO
        # Gloo beside NCCL: what waits in the CPU's memory (offloaded shards) is summed there.
        _meet("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo")
        try:
            watch = Watch(open_store(_MEETING), rank, size, interrupts)
            with watch.watching():
                yield Peers(rank, size, place, per_node, watch)
        finally:
            dist.destroy_process_group()


def join(device: str = "") -> Peers:
    """As `connect`, for others' code that has no block: the processes stay together until this one
    ends, and nobody notices the loss of one.

    >>> from diptych.distributed import join
    >>> join("cpu").size
    1
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    place, (rank, size) = _place(kind), started_as()
    if size == 1:
        return Peers(device=place)
    if not dist.is_initialized():
        _meet("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return Peers(rank, size, place, _number("LOCAL_WORLD_SIZE", 1))


@contextlib.contextmanager
def aside(peers: Peers) -> Generator[Peers, None, None]:
    """The same processes, meeting on the CPU over a group of their own: what a thread does with
    them doesn't get between the collectives of the others. Every process calls it.

    >>> from diptych.distributed import Peers, aside
    >>> with aside(Peers()) as peers:
    ...     peers.size
    1
    """
    if peers.size == 1:
        yield peers
        return
    group = dist.new_group(backend="gloo", timeout=_COLLECTIVE)
    assert isinstance(group, dist.ProcessGroup)
    try:
        yield replace(peers, device=torch.device("cpu"), group=group)
    finally:
        dist.destroy_process_group(group)


def peers_met(rank: int, size: int, device: torch.device) -> Peers:
    """The peers of processes that others' code brought together. Raises ConfigError where there are
    to be several, and they haven't met.

    >>> import torch
    >>> from diptych.distributed import peers_met
    >>> peers_met(0, 1, torch.device("cpu")) == Peers()
    True
    """
    if size > 1 and not dist.is_initialized():
        raise ConfigError(
            f"{size} processes, but none have met; call torch.distributed.init_process_group first"
        )
    return Peers(rank, size, device)


def met(device: torch.device) -> Peers:
    """The peers of whichever processes others' code brought together; alone where it didn't.

    >>> import torch
    >>> from diptych.distributed import met
    >>> met(torch.device("cpu")).size
    1
    """
    if not dist.is_initialized():
        return Peers(device=device)
    return Peers(dist.get_rank(), dist.get_world_size(), device)


def said_by_main(said: bool, device: torch.device) -> bool:
    """Broadcast: what the first of the processes that others' code brought together says. Raises
    ConfigError where none have met."""
    word = torch.tensor(int(said), device=device)
    try:
        dist.broadcast(word, src=0)
    except ValueError as error:  # torch's, without a process group
        raise ConfigError(
            "none of the processes have met; call torch.distributed.init_process_group first"
        ) from error
    return bool(word.item())


def _place(kind: str) -> torch.device:
    if kind != "cuda":
        return torch.device(kind)
    index = local_rank()
    started, there = _number("LOCAL_WORLD_SIZE", index + 1), torch.cuda.device_count()
    if max(started, index + 1) > there:
        raise ConfigError(
            f"{started} processes were started on this machine, which has {there} GPUs: start at "
            "most as many (torchrun --nproc-per-node)"
        )
    place = torch.device(kind, index)
    torch.cuda.set_device(place)
    return place


def _meet(backend: str) -> None:
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=_COLLECTIVE)))
        # torchrun's store may outlast its attempts, and addresses of one are no good for the next.
        store = PrefixStore(attempt(), store)
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=_COLLECTIVE
        )
    except (ValueError, RuntimeError) as error:  # torch's are RuntimeErrors
        raise ConfigError(
            f"the processes of this run didn't meet at {os.environ['MASTER_ADDR']}:"
            f"{os.environ['MASTER_PORT']}: {first_line(error)}; start them with torchrun"
        ) from error


def started_as() -> tuple[int, int]:
    """Rank and number of the processes that were started together, by torchrun's variables.

    Raises ConfigError for some of them without the others, and where Slurm or MPI started several
    that have none: each would do the whole work, all in one place.

    >>> from diptych.distributed import started_as
    >>> started_as()
    (0, 1)
    """
    given = [name for name in ("RANK", "WORLD_SIZE") if os.environ.get(name)]
    if not given or (given == ["WORLD_SIZE"] and _number("WORLD_SIZE", 1) == 1):
        _refuse_lone_tasks()
        return 0, 1
    rank, size = _number("RANK", -1), _number("WORLD_SIZE", -1)
    if (rank, size) == (0, 1):
        return 0, 1
    needed = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in needed if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"{' and '.join(given)} say that this is one of several processes, but "
            f"{' and '.join(missing)} must be set, too: start them with torchrun, or unset "
            f"{' and '.join(given)}"
        )
    _number("MASTER_PORT", 0)
    if not 0 <= rank < size:
        raise ConfigError(f"RANK {rank} must lie in [0, WORLD_SIZE), and WORLD_SIZE is {size}")
    return rank, size


def local_rank() -> int:
    """Which of its machine's processes this is, as torchrun says it."""
    return _number("LOCAL_RANK", 0)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"the variable {name} must be a number, not {text!r}") from error


_LAUNCHERS = {
    "Slurm": ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
    "MPI": ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"),
}
"""Who starts several processes, and the variables in which it says how many; the first one that is
set counts."""


def _refuse_lone_tasks() -> None:
    for launcher, variables in _LAUNCHERS.items():
        tasks = next(filter(None, map(os.environ.get, variables)), "1")
        if tasks.isdigit() and int(tasks) > 1:
            raise ConfigError(
                f"{launcher} started {tasks} tasks, which don't know of each other: start one a "
                "node that runs torchrun (srun --ntasks-per-node 1 torchrun ... -m diptych ...), "
                "or a single task (srun --ntasks 1)"
            )


def refuse_many(what: str) -> None:
    """Raises ConfigError where this is one of several processes; `what` is for one."""
    if started_as()[1] > 1:
        raise ConfigError(f"{what} runs in one process: start it without torchrun")
