"""The index of many shards: the one in the cache folder, or made once by all who start together."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diptych.data.files import Store, stamp_of
from diptych.data.remote import shown
from diptych.data.shard_index import ShardIndex, walk
from diptych.data.shard_maker import Maker, name_of
from diptych.data.shard_records import Record
from diptych.distributed import Peers
from diptych.errors import AbsentError, DataError
from diptych.threads import ahead

_THREADS = 16
"""That ask for sizes and times at once: on a network file system each waits."""
_FEW = 32
"""Shards that one asks for."""


def open_index(
    paths: Sequence[str],
    cache: Path,
    *,
    workers: int = 0,
    peers: Peers | None = None,
    named: bool = False,
    flags: str = "--data.",
    store: Store | None = None,
) -> ShardIndex:
    """The index of these shards: the one in the cache folder, if each shard has the size and time
    that it had then. Shards that are new or changed are walked, by `workers` processes of each of
    the `peers`; what any index in the folder knows isn't walked again. With a `store` they lie
    there, and not in the file system.

    Raises AbsentError for a shard that was `named` and doesn't exist, and DataError where the index
    of more than a thousand shards can't be kept; of fewer each process makes its own, with a
    DataWarning.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych.batch import Sample
    >>> from diptych.data import write_shards
    >>> from diptych.data.indexing import open_index
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cat = Sample(key="", image=b"\\xff\\xd8...", captions=("a cat",))
    ...     shards = write_shards(folder, [cat] * 5, per_shard=2)
    ...     index = open_index([str(path) for path in shards], Path(folder, "cache"))
    ...     len(index), index.locate(4), index.shard(2).members(0)
    (5, (2, 0), {'jpg': (512, 5), 'txt': (1536, 5)})
    """
    peers = peers or Peers()
    versions = _versions(paths, peers, store)
    if named and (missing := np.flatnonzero(versions[:, 0] == _ABSENT)).size:
        raise AbsentError(f"{paths[missing[0]]} doesn't exist")
    places = paths if store else map(os.path.abspath, paths)
    keys = np.array([stamp_of(place) for place in places], "<u8")
    made = Maker(
        kind=ShardIndex,
        record=partial(_walked, paths, store),
        paths=paths,
        keys=keys,
        versions=versions,
        # Paths are kept as they were given: those from another folder are others.
        target=cache / "index" / f"{name_of(paths, keys.tobytes())}.index",
        others="*.index",
        store=store,
    )
    return made.get(workers, "index", flags)


def _walked(paths: Sequence[str], store: Store | None, shard: int) -> Record:
    return walk(paths[shard], store)


_ABSENT = -1
"""Size of a shard that isn't there."""


def _versions(paths: Sequence[str], peers: Peers, store: Store | None = None) -> np.ndarray:
    """Size and time of each shard, [shards, 2]. Each process asks for its share."""
    found = np.zeros((len(paths), 2), np.int64)

    def ask(numbers: range) -> None:
        for number in numbers:
            try:
                if store:
                    found[number] = store.state(paths[number])
                else:
                    state = os.stat(paths[number])
                    found[number] = state.st_size, state.st_mtime_ns
            except (OSError, DataError):
                found[number] = _ABSENT

    own = range(peers.rank, len(paths), peers.size)
    if store:
        parts = [own[place : place + 1] for place in range(len(own))]
    else:
        parts = [own[start::_THREADS] for start in range(_THREADS if len(own) > _FEW else 0)]
    if parts:
        named = partial(_first, paths) if store else None
        for _ in ahead(ask, parts, _THREADS, 4 * _THREADS, named):
            pass
    else:
        ask(own)
    return peers.sum(torch.from_numpy(found).to(peers.device)).cpu().numpy()


def _first(paths: Sequence[str], numbers: range) -> str:
    return shown(paths[numbers[0]])
