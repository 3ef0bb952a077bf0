"""The nearest of many vectors, exactly: fast products find candidates, exact ones rank them."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diptych.similarity import FastProducts, exact_matrix, exact_pairs, has_half_products

_NUMBERS = 2**20
"""Of a tile, for each thread: 4 MB in float32, which stay near the processor."""
_QUERIES = 1024
"""At a time: with a tile of width 512, 8 MB of scores for each thread."""
_PENDING = 32
"""Candidates of a query, or `top` if that is more, that wait for their exact scores together."""
_SHARE = 32
"""A tile of which more than one in so many pairs is a candidate is computed exactly at once."""


def nearest(
    queries: Float[Tensor, "queries width"],
    vectors: Float[Tensor, "rows width"],
    top: int,
    allowed: Bool[Tensor, " rows"] | None = None,
    half: Tensor | None = None,
) -> tuple[Float[Tensor, "queries found"], Int[Tensor, "queries found"]]:
    """The `top` greatest products of each query and their rows, the best first; of equal ones the
    lower row wins. Fewer than `top` where fewer rows are there, or are `allowed`.

    All on the CPU. `vectors` have length 1, are float32 or float16, and may be memory-mapped: they
    are read once for up to a thousand queries, in tiles, of which little is in memory. Nothing is
    approximated: scores are float64 products, rounded to float32 (`diptych.similarity`). `half`:
    the same vectors as `in_half` gives them, which are then read in place of most of the others.

    >>> import torch
    >>> from diptych.search import nearest
    >>> scores, rows = nearest(torch.eye(3), torch.eye(3)[[2, 0, 0]], top=2)
    >>> rows.tolist()
    [[1, 2], [0, 1], [0, 1]]
    """
    queries = queries.float()
    rows = torch.arange(len(vectors)) if allowed is None else allowed.nonzero()[:, 0]
    if not (len(queries) and len(rows)):
        found = min(top, len(rows))
        return torch.zeros(len(queries), found), torch.zeros(len(queries), found, dtype=torch.long)
    parts = [_scan(part, vectors, rows, top, half) for part in queries.split(_QUERIES)]
    return torch.cat([best.scores for best in parts]), torch.cat([best.rows for best in parts])


def in_half(vectors: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"] | None:
    """The vectors in bfloat16, in memory: for who asks often, a query at a time, which waits for
    nothing but the reading. None where the processor doesn't multiply in it."""
    return vectors.bfloat16() if has_half_products() else None


def _scan(queries: Tensor, vectors: Tensor, rows: Tensor, top: int, half: Tensor | None) -> "_Best":
    best = _Best(queries, vectors, top)
    fast = FastProducts(queries, held=half is not None)
    step = max(1, _NUMBERS * torch.get_num_threads() // vectors.shape[1])
    read = vectors if half is None or not fast.is_half else half
    for some in rows.split(step):
        near = _tile(read, some)
        # Until there are `top`, each is among the best.
        if not (best.is_full and best.add_some(fast, near, some)):
            best.add_all(_tile(vectors, some), some)
    best.settle()
    return best


def _tile(vectors: Tensor, rows: Int[Tensor, " some"]) -> Tensor:
    """Rows that lie together where they are; others copied together."""
    first, last = int(rows[0]), int(rows[-1])
    return vectors[first : last + 1] if last - first + 1 == len(rows) else vectors[rows]


class _Best:
    """The best of the rows that were added, which come in order."""

    def __init__(
        self, queries: Float[Tensor, "queries width"], vectors: Float[Tensor, "all width"], top: int
    ):
        self._queries, self._vectors, self._top = queries, vectors, top
        self.scores = torch.zeros(len(queries), 0)
        self.rows = torch.zeros(len(queries), 0, dtype=torch.long)
        self._pending = list[tuple[Tensor, Tensor]]()
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        return self.scores.shape[1] == self._top

    def add_all(self, tile: Float[Tensor, "rows width"], rows: Int[Tensor, " rows"]) -> None:
        """Add them with their exact scores."""
        self.settle()
        scores = exact_matrix(self._queries, tile)
        # topk may take any of several equals at its edge, so it only says where that is.
        edges = scores.topk(min(self._top, len(rows))).values[:, -1:]
        chosen = scores >= edges
        query, place = chosen.nonzero(as_tuple=True)
        self._merge(query, rows[place], scores[chosen])

    def add_some(
        self, fast: FastProducts, tile: Float[Tensor, "rows width"], rows: Int[Tensor, " rows"]
    ) -> bool:
        """Add those that may be among the best; False, and nothing, if they are too many."""
        near = fast(tile).reach((self.scores[:, -1] - fast.error)[:, None])
        # NumPy takes a fifth of torch's time.
        found = torch.from_numpy(np.flatnonzero(near))
        if len(found) * _SHARE > near.size:
            return False
        self._pending.append((found // len(rows), rows[found % len(rows)]))
        self._waiting += len(found)
        if self._waiting > len(self.rows) * max(_PENDING, self._top):
            self.settle()
        return True

    def settle(self) -> None:
        """Rank what waits by its exact scores."""
        if not self._pending:
            return
        query, rows = map(torch.cat, zip(*self._pending, strict=True))
        self._pending, self._waiting = [], 0
        self._merge(query, rows, exact_pairs(self._queries, query, self._vectors, rows))

    def _merge(
        self,
        query: Int[Tensor, " pairs"],
        rows: Int[Tensor, " pairs"],
        scores: Float[Tensor, " pairs"],
    ) -> None:
        if self.is_full:  # an equal one has a higher row than what is there
            better = scores > self.scores[query, -1]
            query, rows, scores = query[better], rows[better], scores[better]
        count, had = self.scores.shape
        of = torch.cat([torch.arange(count).repeat_interleave(had), query])
        rows = torch.cat([self.rows.flatten(), rows])
        scores = torch.cat([self.scores.flatten(), scores])
        # By query, then by score, then by row: stable, and the rows are in order.
        order = scores.argsort(descending=True, stable=True)
        order = order[of[order].argsort(stable=True)]
        pairs = of.bincount(minlength=count)
        first, kept = pairs.cumsum(0) - pairs, min(self._top, int(pairs.min()))
        order = order[first[:, None] + torch.arange(kept)]
        self.rows, self.scores = rows[order], scores[order]
