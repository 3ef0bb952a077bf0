"""The machines: who the other processes are, and how a module is spread over them, and the
collectives between them.

The only room that knows `torch.distributed` and its environment variables.
"""

from diptych.distributed.batchnorm import OwnBatchNorm1d
from diptych.distributed.failures import FAILURES, PeerError, on_main, together
from diptych.distributed.launch import (
    aside,
    connect,
    join,
    local_rank,
    met,
    peers_met,
    refuse_many,
    said_by_main,
    started_as,
)
from diptych.distributed.neighbours import send_and_receive
from diptych.distributed.peers import Peers, Pending
from diptych.distributed.pieces import Piece, Store, own_pieces
from diptych.distributed.shard import Parts, data_parallel, unsynchronised, whole_within
from diptych.distributed.shards import (
    fill,
    load_whole,
    local,
    shard_like,
    spread_like,
    squared_norms,
    whole,
    zeros_by_rows,
)
from diptych.distributed.write import write_pieces

__all__ = [
    "FAILURES",
    "OwnBatchNorm1d",
    "Parts",
    "PeerError",
    "Peers",
    "Pending",
    "Piece",
    "Store",
    "aside",
    "connect",
    "data_parallel",
    "fill",
    "join",
    "load_whole",
    "local",
    "local_rank",
    "met",
    "on_main",
    "own_pieces",
    "peers_met",
    "refuse_many",
    "said_by_main",
    "send_and_receive",
    "shard_like",
    "spread_like",
    "squared_norms",
    "started_as",
    "together",
    "unsynchronised",
    "whole",
    "whole_within",
    "write_pieces",
    "zeros_by_rows",
]
