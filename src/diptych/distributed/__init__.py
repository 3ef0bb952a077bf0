"""The machines: who the other processes are, and how a module is spread over them, and the
collectives between them.

The only room that knows `torch.distributed` and its environment variables.
"""

from diptych.distributed.batchnorm import OwnBatchNorm1d
from diptych.distributed.failures import FAILURES, PeerError, on_main, together
from diptych.distributed.launch import (
    connect,
    data_parallel,
    refuse_many,
    started_as,
    unsynchronised,
)
from diptych.distributed.peers import Peers
from diptych.distributed.shards import local, squared_norms

__all__ = [
    "FAILURES",
    "OwnBatchNorm1d",
    "PeerError",
    "Peers",
    "connect",
    "data_parallel",
    "local",
    "on_main",
    "refuse_many",
    "squared_norms",
    "started_as",
    "together",
    "unsynchronised",
]
