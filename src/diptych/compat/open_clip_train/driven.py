"""Evaluation of a model in shards: what one process measures, all have to compute with it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from diptych.compat.task.image_text import ImageTextTask
from diptych.distributed import Peers, peers_met
from diptych.errors import ConfigError


def shares_evaluation(args: Any) -> bool:
    """Whether the arguments say that the model is in shards."""
    said = vars(args)
    return bool(said.get("fsdp") and said.get("distributed"))


def driven(loader: Iterable[Any], args: Any, blank: Callable[[], Any]) -> Iterator[Any]:
    """The first process's batches; the others have `blank` as often. Alone it is the loader."""
    if not shares_evaluation(args):
        yield from loader
        return
    peers: Peers = peers_met(args.rank, args.world_size, torch.device(args.device))
    batches = iter(loader) if peers.is_main else iter(())
    while True:
        batch = next(batches, None)
        if not peers.any(batch is not None):
            return
        yield blank() if batch is None else batch


def blank_batch(task: Any, device: torch.device, dtype: torch.dtype | None) -> dict[str, Any]:
    """A batch of one of nothing. Raises ConfigError for what isn't a task of pictures."""
    if not isinstance(task, ImageTextTask):
        raise ConfigError("a model in shards is evaluated as a task: give evaluate the task")
    return task.create_dummy_batch(batch_size=1, device=device, dtype=dtype)
