"""Evaluation of a model in shards: what one process measures, all have to compute with it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch

from diptych.compat.model_traits import unwrap_model
from diptych.distributed import said_by_main
from diptych.errors import ConfigError


@runtime_checkable
class Blank(Protocol):
    """What makes batches of nothing, as tasks of pictures do."""

    def create_dummy_batch(self, **options: Any) -> dict[str, Any]:
        """One of `batch_size` rows, on `device`, of `dtype`."""
        raise NotImplementedError


def shares_evaluation(args: Any) -> bool:
    """Whether the arguments say that the model is in shards."""
    said = vars(args)
    return bool(said.get("fsdp") and said.get("distributed"))


def driven(
    loader: Iterable[Any] | None, args: Any, shared: bool, blank: Callable[[], Any]
) -> Iterator[Any]:
    """The first process's batches; the others have `blank` as often, and need no loader. If the
    model isn't `shared`, it is the loader."""
    waits = shared and args.rank != 0
    batches: Iterator[Any] = iter(() if loader is None or waits else loader)
    if not shared:
        yield from batches
        return
    device = torch.device(args.device)
    filling = blank() if waits else None
    while True:
        batch = next(batches, None)
        if not said_by_main(batch is not None, device):
            return
        yield filling if batch is None else batch


def blank_batch(task: Any, device: torch.device, dtype: torch.dtype | None) -> dict[str, Any]:
    """A batch of one of nothing. Raises ConfigError for what makes none."""
    found = unwrap_model(task)
    if not isinstance(found, Blank):
        raise ConfigError("a model in shards is evaluated as a task: give evaluate the task")
    return found.create_dummy_batch(batch_size=1, device=device, dtype=dtype)
