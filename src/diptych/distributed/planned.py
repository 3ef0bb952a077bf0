"""The pieces of all processes, as torch's distributed checkpoints plan and write them."""

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from diptych.distributed.peers import Peers
from diptych.distributed.pieces import Piece, Store


def write_planned(pieces: Mapping[str, Piece], store: Store, peers: Peers) -> None:
    """See `write_pieces`. For several processes."""
    tensors = {name: piece.tensor for name, piece in pieces.items()}
    try:
        save(
            tensors,
            storage_writer=_Writer(store),
            planner=_Planner(pieces),
            process_group=peers.group,
        )
    except CheckpointException as failed:
        [(error, _), *_] = failed.failures.values()
        raise error from failed


class _Planner(DefaultSavePlanner):
    """Plans by the tensors, and writes the copies."""

    def __init__(self, pieces: Mapping[str, Piece]):
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._pieces = pieces

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        return self._pieces[write_item.index.fqn].copy


class _Writer(StorageWriter):
    """Writes into a store."""

    def __init__(self, store: Store):
        self._store = store

    def reset(self, checkpoint_id: str | PathLike[str] | None = None) -> None:
        """Nothing is kept."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | PathLike[str]) -> bool:
        return True

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to do."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """On the first process, which has everybody's plans."""
        tensors = dict[str, Tensor]()
        for plan in plans:
            for item in plan.items:
                assert item.tensor_data is not None
                size, dtype = item.tensor_data.size, item.tensor_data.properties.dtype
                tensors[item.index.fqn] = torch.empty(size, dtype=dtype, device="meta")
        room = self._store.create(tensors)
        return [replace(plan, storage_data=room) for plan in plans]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        pieces = list[tuple[str, int, Tensor]]()
        for item in plan.items:
            piece = planner.resolve_data(item)
            assert item.tensor_data is not None
            assert isinstance(piece, Tensor)
            whole, offsets = item.tensor_data.size, item.tensor_data.chunk.offsets
            # FSDP shards along the first axis: each piece is one piece of its tensor.
            assert piece.shape[1:] == whole[1:]
            before = offsets[0] * whole[1:].numel() if offsets else 0
            pieces.append((item.index.fqn, before, piece))
        self._store.put(plan.storage_data, pieces)
        written = Future[list[WriteResult]]()
        written.set_result([])
        return written

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """The files are whole as they are."""
