"""Real processes that meet over Gloo on this machine."""

import os
import pickle
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from diptych.distributed import Peers
from tests import forked

TIMEOUT = timedelta(seconds=180)


def run_processes(count: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What `function(peers, *args)` returns on each of `count` processes, in rank order.

    `function` stands at the top level of a module, and its arguments and result can be pickled.
    When it raises on any process, its traceback goes to stderr and all are ended. None is left
    behind.
    """
    context = forked.context()
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        pipes, processes = [], []
        for rank in range(count):
            here, there = context.Pipe(duplex=False)
            process = context.Process(
                target=_work, args=(there, meeting, rank, count, function, args), daemon=True
            )
            process.start()
            there.close()
            pipes.append(here)
            processes.append(process)
        try:
            return [_result(rank, pipe) for rank, pipe in enumerate(pipes)]
        finally:
            for process, pipe in zip(processes, pipes, strict=True):
                process.terminate()
                process.join()
                pipe.close()


def _result(rank: int, pipe: Any) -> Any:
    if not pipe.poll(TIMEOUT.total_seconds()):
        raise AssertionError(
            f"process {rank} gave no result within {TIMEOUT.total_seconds():.0f} s"
        )
    try:
        return pickle.loads(pipe.recv_bytes())
    except EOFError:
        raise AssertionError(f"process {rank} died; its traceback stands in stderr") from None


def _work(
    pipe: Any,
    meeting: str,
    rank: int,
    count: int,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=count, timeout=TIMEOUT
    )
    try:
        # Plain pickle: multiprocessing's own would leave tensors in the memory of a process that
        # ends.
        pipe.send_bytes(pickle.dumps(function(Peers(rank, count), *args)))
    finally:
        dist.destroy_process_group()
