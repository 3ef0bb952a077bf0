"""Work in processes of its own, some at a time, so that each has its own peak of memory."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, TypeVar

import torch

from diptych.errors import DiptychError, TrainingError
from diptych.threads import usable_cores

T = TypeVar("T")
Task = tuple[Any, ...]
"""The arguments of the work; they travel to another process."""
_PATIENCE = 15.0
"""Seconds that a run has to save what it has, when it is told to stop."""


class _Working(NamedTuple):
    name: str
    process: BaseProcess
    end: Connection


def each_apart(
    work: Callable[..., T], tasks: Mapping[str, Task], jobs: int = 1
) -> Iterator[tuple[str, T]]:
    """(name, result) of `work(*task)` of every task as it is done, `jobs` at a time, each in a
    process of its own with its share of the cores.

    What a task raises is raised here, with the task's name, TrainingError where its process is
    gone; and the others are told to stop, as where the caller does, or is gone.
    """
    waiting, working = list(tasks), dict[Connection, _Working]()
    threads = max(1, usable_cores() // jobs)
    try:
        while waiting or working:
            while waiting and len(working) < jobs:
                begun = _begin(waiting[0], work, tasks[waiting.pop(0)], threads)
                working[begun.end] = begun
            for end in wait(list(working)):
                done = working[end]  # pyright: ignore[reportArgumentType] -- as they were given
                result = _result(done)
                del working[done.end]
                yield done.name, result
    finally:
        _stop(list(working.values()))


def _begin(name: str, work: Callable[..., T], task: Task, threads: int) -> _Working:
    context = get_context("spawn")
    end, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(theirs, threads, work, task))
    process.start()
    theirs.close()  # so that its end is seen here when the process is gone
    return _Working(name, process, end)


def _do(end: Connection, threads: int, work: Callable[..., Any], task: Task) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who tells us to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        told = (work(*task), None)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is said where it was asked for)
        told = (None, error)
    with contextlib.suppress(BrokenPipeError):  # who asked is gone
        end.send(told)


def _end_with_parent() -> None:
    """A parent that was killed has told nobody to stop, and what it is called for again must not
    find its processes at work."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _result(done: _Working) -> Any:
    try:
        result, error = done.end.recv()
    except EOFError:
        done.process.join()
        raise TrainingError(
            f"the process of {done.name} ended with code {done.process.exitcode}; the same command "
            "goes on from what it had saved"
        ) from None
    done.process.join()
    if isinstance(error, DiptychError):
        error.args = (f"{done.name}: {error}",)
    if error is not None:
        raise error
    return result


def _stop(working: list[_Working]) -> None:
    for each in working:
        with contextlib.suppress(OSError):
            each.process.terminate()
    for each in working:
        each.process.join(_PATIENCE)
        if each.process.is_alive():
            each.process.kill()
            each.process.join()
