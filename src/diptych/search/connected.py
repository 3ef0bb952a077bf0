"""Vectors that are near each other, directly or over others, by comparing all pairs.

Most pairs are far apart, which a part of their numbers shows. With the coordinates cut into some
(P) and the rest (R),

    q·v = q_P·v_P + q_R·v_R <= q_P·v_P + |q_R| |v_R|

which is a product of vectors of |P| + 1 numbers: the sketches. Only pairs whose sketches reach the
threshold are looked at.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diptych.similarity import FastProducts, has_half_products, moved_by_half, reaching_pairs

_BLOCK, _TILE = 1024, 2048
"""Rows that are compared with so many others at a time."""
_KEPT = 4
"""One in so many coordinates is kept in sketches."""
_SAMPLE, _ROWS = 4096, 65536
"""Rows by which coordinates are chosen, and of which sketches are made at a time."""
_SHARE = 32
"""Where sketches leave more than one in so many pairs, whole vectors are compared."""
_PENDING = 2**16
"""Pairs that are joined together: that takes as long as there are rows, not pairs."""


class Connecting:
    """Groups of unit vectors whose exact products reach the threshold. Memory holds the sketches
    (in bfloat16 a quarter of a KB for 512 numbers) and one tile of scores.

    >>> import torch
    >>> from diptych.search.connected import Connecting
    >>> near = Connecting(torch.eye(4)[[0, 1, 0, 2]], torch.arange(4), 0.9)
    >>> [len(block) for block in near.blocks()], near.labels.tolist()
    ([4], [0, 1, 0, 2])
    """

    def __init__(
        self, vectors: Float[Tensor, "all width"], rows: Int[Tensor, " rows"], threshold: float
    ):
        self._vectors, self._rows, self._threshold = vectors, rows, threshold
        self._groups = _Groups(len(rows))

    @property
    def labels(self) -> Int[np.ndarray, " rows"]:
        """For each of the rows the number of its group, as far as it is known."""
        return self._groups.labels

    def blocks(self) -> Iterator[range]:
        """Compare a block with all that stand after it, yield it, and go on with the next."""
        rows, groups = self._rows, self._groups
        if not len(rows):
            return
        sketches = _Sketches(self._vectors, rows)
        for first in range(0, len(rows), _BLOCK):
            block = range(first, min(first + _BLOCK, len(rows)))
            queries = self._vectors[rows[first : block.stop]].float()
            near = _Near(queries, sketches, self._threshold)
            for start in range(first, len(rows), _TILE):
                tile = range(start, min(start + _TILE, len(rows)))
                left, right = np.divmod(self._possible(near, sketches, tile), len(tile))
                apart = groups.apart(left + first, right + start)
                left, right = left[apart], right[apart]
                others = self._vectors, rows[start + right]
                reached = _reached(queries, left, *others, self._threshold)
                groups.join(left[reached] + first, right[reached] + start)
            groups.settle()
            yield block

    def _possible(
        self, near: "_Near", sketches: "_Sketches", tile: range
    ) -> Int[np.ndarray, " pairs"]:
        found = near.sketched(sketches.of(tile))
        if len(found) * _SHARE > near.size * len(tile):
            found = near.whole(self._vectors[self._rows[tile.start : tile.stop]])
        return found


def _reached(
    queries: Tensor, left: np.ndarray, vectors: Tensor, rows: Int[Tensor, " pairs"], lowest: float
) -> Bool[np.ndarray, " pairs"]:
    """Which exact products of `queries[left]`, in order, and `vectors[rows]` are at least that."""
    if not len(left):
        return np.zeros(0, bool)
    some, right = rows.unique(return_inverse=True)
    edges = torch.full((len(left),), lowest)
    pairs = queries, torch.from_numpy(left), vectors[some].float(), right
    return reaching_pairs(*pairs, edges).numpy()


class _Sketches:
    """Those of all rows, in the precision in which they are multiplied."""

    moved = 0.0
    """How far bfloat16 moves none of them."""

    def __init__(self, vectors: Tensor, rows: Int[Tensor, " rows"]):
        # Any coordinates are right; those in which vectors differ most leave the fewest pairs.
        some = vectors[rows[:: max(1, len(rows) // _SAMPLE)]].float()
        order = some.var(0, correction=0).argsort(descending=True)
        kept = max(1, len(order) // _KEPT)
        self._kept, self._rest = order[:kept], order[kept:]
        kind = torch.bfloat16 if has_half_products() else torch.float32
        self._all = torch.empty(len(rows), kept + 1, dtype=kind)
        for start in range(0, len(rows), _ROWS):
            sketches = self.make(vectors[rows[start : start + _ROWS]].float())
            self.moved = max(self.moved, float(moved_by_half(sketches).max()))
            self._all[start : start + _ROWS] = sketches

    def make(self, vectors: Float[Tensor, "some width"]) -> Float[Tensor, "some sketch"]:
        """In float32."""
        rest = torch.linalg.vector_norm(vectors.index_select(1, self._rest), dim=1, keepdim=True)
        # Rounded up, so that the bound is one.
        rest *= 1 + len(self._rest) * torch.finfo(torch.float32).eps
        return torch.cat([vectors.index_select(1, self._kept), rest], 1)

    def of(self, rows: range) -> Float[Tensor, "some sketch"]:
        """As they are multiplied."""
        return self._all[rows.start : rows.stop]


class _Near:
    """Which vectors may be near those of a block."""

    def __init__(self, queries: Float[Tensor, "block width"], sketches: _Sketches, lowest: float):
        self._sketched = FastProducts(sketches.make(queries), moved=sketches.moved, held=True)
        self._whole = FastProducts(queries)
        self._lowest = lowest
        self.size = len(queries)

    def sketched(self, tile: Float[Tensor, "tile sketch"]) -> Int[np.ndarray, " pairs"]:
        """Pairs of the block and a tile, as places in the matrix of them; all that reach the
        threshold are among them. Of sketches."""
        return self._reaching(self._sketched, tile)

    def whole(self, tile: Float[Tensor, "tile width"]) -> Int[np.ndarray, " pairs"]:
        """The same of whole vectors: fewer."""
        return self._reaching(self._whole, tile)

    def _reaching(self, fast: FastProducts, tile: Tensor) -> Int[np.ndarray, " pairs"]:
        return np.flatnonzero(fast(tile).reach((self._lowest - fast.error)[:, None]))


class _Groups:
    """Which rows belong together, as far as it is known."""

    def __init__(self, size: int):
        self.labels = np.arange(size, dtype=np.int32)  # no other are read by every SciPy
        self._pairs = list[tuple[np.ndarray, np.ndarray]]()
        self._waiting = 0

    def apart(self, left: np.ndarray, right: np.ndarray) -> Bool[np.ndarray, " pairs"]:
        """Of which pairs it isn't known yet that they belong together."""
        return self.labels[left] != self.labels[right]

    def join(self, left: np.ndarray, right: np.ndarray) -> None:
        """These pairs belong together, too; it is known when many wait, and after `settle`."""
        self._pairs.append((left, right))
        self._waiting += len(left)
        if self._waiting > _PENDING:
            self.settle()

    def settle(self) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not self._waiting:
            return
        left, right = map(np.concatenate, zip(*self._pairs, strict=True))
        self._pairs, self._waiting = [], 0
        size, pairs = len(self.labels), (self.labels[left], self.labels[right])
        graph = coo_array((np.ones(len(left), bool), pairs), shape=(size, size))
        self.labels = connected_components(graph, directed=False)[1][self.labels]
