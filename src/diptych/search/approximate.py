"""Approximate search, for more than ten million vectors: a graph (HNSW) beside an index.

    photos.index/
      approximate.usearch   usearch's graph of the vectors, in bfloat16
      approximate.json      of which generation and how many rows it is, and its recall

It is made when it is asked for, and made anew when the index has changed. usearch follows the
numbers in the file unseen, and ends in a segmentation fault, or worse, where they lead out of it:
so only the very file that was written here is read, no copy, and no stranger's.
"""

import json
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diptych.bounded import parse_json, read_text
from diptych.durable import by_library, write_file
from diptych.encoder.progress import track
from diptych.errors import ConfigError, DataWarning
from diptych.search.scan import nearest
from diptych.search.store import Store
from diptych.similarity import exact_pairs

TOP = 10
"""Of how many nearest the recall is measured."""
SAMPLE = 200
"""Pictures of the index that are looked for to measure it."""
_ROWS = 65536
"""Vectors added at a time."""
_WIDER = 4
"""Candidates that are ranked by their exact scores, for each that is asked for."""


class Approximate:
    """The graph of an index. `Approximate.open` makes it if it isn't there, or isn't current.

    Raises ConfigError where usearch isn't installed.
    """

    recall: float
    """Share of the exact search's `TOP` that it finds, by pictures of the index itself. Texts,
    which lie farther from all pictures, may find less."""
    is_new: bool
    """Whether it had to be made."""

    def __init__(self, store: Store, graph: Any, recall: float, is_new: bool):
        self._store, self._graph = store, graph
        self.recall, self.is_new = recall, is_new

    @classmethod
    def open(cls, store: Store, progress: bool = False) -> "Approximate":
        """Of the index that `store` reads; making it takes minutes for each million vectors."""
        graph_of = _usearch()
        path = store.folder / "approximate.usearch"
        about = {"generation": store.meta.generation, "rows": len(store)}
        said = _read(store.folder / "approximate.json")
        if {**said, **about} == said and _is_ours(path, said):
            return cls(store, graph_of.restore(str(path), view=True), float(said["recall"]), False)
        graph = graph_of(ndim=store.meta.width, metric="ip", dtype="bf16")
        for rows, vectors in _parts(store, progress):
            graph.add(rows, vectors)
        write_file(path, partial(_save, graph))
        made = cls(store, graph, 0.0, True)
        made.recall = made._measure()
        known = {"file": _state(path), "recall": made.recall}
        text = json.dumps(about | known) + "\n"
        write_file(store.folder / "approximate.json", lambda target: target.write_text(text))
        return made

    def nearest(
        self, queries: Float[Tensor, "queries width"], top: int
    ) -> list[tuple[list[float], list[int]]]:
        """Scores and rows of nearly the `top` nearest of each query, by their exact scores.
        Damaged entries among them are left out, with a DataWarning."""
        vectors = torch.from_numpy(self._store.vectors)
        found = self._graph.search(queries.numpy(), min(len(vectors), _WIDER * top))
        best, damaged = list[tuple[list[float], list[int]]](), set[int]()
        # Of a single query it gives the matches alone.
        for place, matches in enumerate([found] if len(queries) == 1 else found):
            near = np.sort(matches.keys.astype(np.int64))
            sound = self._store.are_sound(near)
            damaged.update(near[~sound].tolist())
            rows = torch.from_numpy(near[sound])
            scores = exact_pairs(queries, torch.full_like(rows, place), vectors, rows)
            order = scores.argsort(descending=True, stable=True)[:top]
            best.append((scores[order].tolist(), rows[order].tolist()))
        if damaged:
            warnings.warn(
                f"{len(damaged):,} entries of {self._store.folder} that are near are damaged, and "
                "left out; `diptych embed PICTURES --out` of it makes them again",
                DataWarning,
                stacklevel=2,
            )
        return best

    def _measure(self) -> float:
        sound = torch.from_numpy(self._store.sound)
        rows = sound.nonzero()[:, 0]
        places = torch.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).long()
        vectors = torch.from_numpy(self._store.vectors)
        queries = vectors[rows[places]].float()
        _, true = nearest(queries, vectors, TOP, sound)
        mine = self.nearest(queries, TOP)
        hits = sum(len({*rows} & {*exact}) for (_, rows), exact in zip(mine, true.tolist()))
        return hits / max(1, true.numel())


def _usearch() -> Any:
    try:
        from usearch.index import Index
    except ImportError as error:
        raise ConfigError(
            "the approximate search needs usearch: `pip install 'diptych[ann]'`"
        ) from error
    return Index


def _save(graph: Any, path: Path) -> None:
    with by_library(path):
        graph.save(str(path))


def _is_ours(path: Path, said: dict[str, Any]) -> bool:
    """Whether it is the file that was written here, unchanged."""
    return path.is_file() and said.get("file") == _state(path)


def _state(path: Path) -> list[int]:
    """What changes with the file, is another in each copy of it, and can't be chosen."""
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_ctime_ns]


def _read(path: Path) -> dict[str, Any]:
    """What is said of the graph; nothing where there is none, or nothing that can be read."""
    try:
        said = parse_json(read_text(path))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) and isinstance(said.get("recall"), float) else {}


def _parts(store: Store, progress: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    starts = range(0, len(store), _ROWS)
    rows = (np.arange(start, min(start + _ROWS, len(store))) for start in starts)
    parts = ((some, store.vectors[some].astype(np.float32)) for some in rows)
    return track(parts, "vectors", len(store)) if progress else parts
