"""Token-wise late interaction: two sets of tokens compared token by token (FILIP, Yao et al. 2021,
arXiv:2111.07783, equation 5).

The similarity of a query set and a key set is the mean over queries of the largest dot product with
a key. Between `rows` query sets of q tokens and `columns` key sets of k tokens that is rows x
columns x q x k dot products: `late_interaction_reference` makes them, as tests and small examples
can. `token_similarity` gives the same numbers and gradients and holds a tile of them at a time, in
the forward and in the backward pass.
"""

import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 1 << 19
"""Dot products held at a time. Two megabytes stay in a core's cache."""
KEPT = 1 << 28
"""For so many row-queries and columns it is kept, as a byte, which key was nearest; where there are
more, it is found again in the backward pass."""
LONGEST = 128
"""Sets of so many tokens are what a GPU's registers hold; longer ones take the tiled path there,
too."""


def late_interaction_reference(
    queries: Float[Tensor, "rows q width"],
    keys: Float[Tensor, "columns k width"],
    *,
    queries_seen: Bool[Tensor, "rows q"] | None = None,
    keys_seen: Bool[Tensor, "columns k"] | None = None,
) -> Float[Tensor, "rows columns"]:
    """The equation as it stands: of each row's queries against each column's keys, those that are
    seen (None: all).

    >>> import torch
    >>> from diptych.objectives.late_interaction import late_interaction_reference
    >>> late_interaction_reference(torch.eye(2)[None], torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]]))
    tensor([[0.5000, 0.7000]])
    """
    # i: row, j: column, q: query, k: key. All products at once, the maximum over keys, the mean
    # over queries.
    products = torch.einsum("iqw,jkw->ijqk", queries, keys)
    if keys_seen is not None:
        products = products.masked_fill(~keys_seen[:, None], -torch.inf)
    return torch.einsum("ijq,iq->ij", products.amax(dim=3), _shares(queries, queries_seen))


def token_similarity(
    queries: Float[Tensor, "rows q width"],
    keys: Float[Tensor, "columns k width"],
    *,
    queries_seen: Bool[Tensor, "rows q"] | None = None,
    keys_seen: Bool[Tensor, "columns k"] | None = None,
    tile: int = TILE,
) -> Float[Tensor, "rows columns"]:
    """`late_interaction_reference` in tiles of at most about `tile` dot products, in float32 at
    least.

    Each set needs a token that is seen. Memory: the tile, copies of the arguments, and, for the
    backward pass, a byte for each query and column (`KEPT`). On a GPU with Triton the tiles live in
    its registers, and there are no such bytes. Where two keys are equally near, one of them gets
    the gradient.

    >>> import torch
    >>> from diptych.objectives.late_interaction import token_similarity
    >>> token_similarity(torch.eye(2)[None], torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]]))
    tensor([[0.5000, 0.7000]])
    """
    with torch.autocast(queries.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(queries.dtype, keys.dtype), torch.float32)
        queries, keys = queries.to(dtype), keys.to(dtype)
        shares = _shares(queries, queries_seen)
        # What isn't seen is infinitely far: added to the products, it is never the maximum.
        hidden = (
            None
            if keys_seen is None
            else keys.new_zeros(keys_seen.shape).masked_fill_(~keys_seen, -torch.inf)
        )
        if _fits_chip(queries, keys):
            from diptych.objectives.late_interaction_triton import TokenSimilarity

            return TokenSimilarity.apply(queries, keys, shares, hidden)
        return _TokenSimilarity.apply(queries, keys, shares, hidden, tile)


def _shares(queries: Tensor, seen: Tensor | None) -> Float[Tensor, "rows q"]:
    """What each query counts in its row's mean."""
    if seen is None:
        return queries.new_full(queries.shape[:2], 1 / queries.shape[1])
    return seen.to(queries.dtype) / seen.sum(dim=1, keepdim=True)


def _fits_chip(queries: Tensor, keys: Tensor) -> bool:
    if (
        queries.device.type != "cuda"
        or queries.dtype != torch.float32
        or max(queries.shape[1], keys.shape[1]) > LONGEST
        or importlib.util.find_spec("triton") is None
    ):
        return False
    from diptych.objectives.late_interaction_triton import fits

    return fits(queries, keys)


class _Tiles:
    """The dot products, a tile at a time, always in the same buffer.

    A tile is [row-queries, keys of a set, columns]: the maximum over a set's keys then compares
    whole contiguous rows of columns with each other, which a core's vector unit does.
    """

    def __init__(self, queries: Tensor, keys: Tensor, hidden: Tensor | None, tile: int):
        self.queries, self.keys = queries, keys.transpose(0, 1)
        self.hidden = None if hidden is None else hidden.T
        q, k = queries.shape[1], keys.shape[1]
        # At most 32 columns, then as many rows as the tile has room for: keys are multiplied with
        # many queries before the next ones are fetched.
        self.columns = max(1, min(len(keys), 32, tile // (q * k)))
        self.rows = max(1, min(len(queries), tile // (q * k * self.columns)))
        self.buffer = queries.new_empty(self.rows * q * k * self.columns)
        # Rows of which the nearest keys are treated at once: a few tensors of long integers, which
        # are sorted fast from some ten thousand on.
        self.many_rows = max(1, min(len(queries), tile // (8 * q * self.columns)))

    def column_slices(self) -> list[slice]:
        return _slices(0, self.keys.shape[1], self.columns)

    def row_slices(self, rows: slice | None = None) -> list[slice]:
        """Tiles of some rows (None: of all)."""
        first, end = (rows.start, rows.stop) if rows else (0, len(self.queries))
        return _slices(first, end, self.rows)

    def many_row_slices(self) -> list[slice]:
        return _slices(0, len(self.queries), self.many_rows)

    def keys_of(self, columns: slice) -> Tensor:
        """[keys, width], in order of key and column."""
        return self.keys[:, columns].flatten(0, 1)

    def products(self, rows: slice, some_keys: Tensor, columns: slice) -> Tensor:
        """[row-queries, k, columns]. The buffer of the previous call is overwritten."""
        queries = self.queries[rows].flatten(0, 1)
        tile = self.buffer[: len(queries) * len(some_keys)].view(len(queries), len(some_keys))
        products = torch.mm(queries, some_keys.T, out=tile).view(len(queries), len(self.keys), -1)
        return products if self.hidden is None else products.add_(self.hidden[:, columns])

    def nearest(self, rows: slice, some_keys: Tensor, columns: slice) -> Tensor:
        """Each query's nearest key in each set, as a number: [row-queries, columns]."""
        tiles = (self.products(some, some_keys, columns) for some in self.row_slices(rows))
        return torch.cat([_numbers(products, products.amax(dim=1)) for products in tiles])


def _slices(first: int, end: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, end)) for start in range(first, end, size)]


def _small(count: int) -> torch.dtype:
    """A type for numbers below `count`."""
    return torch.uint8 if count <= 256 else torch.int32


def _numbers(
    products: Float[Tensor, "n k columns"], largest: Float[Tensor, "n columns"]
) -> Float[Tensor, "n columns"]:
    """Which key has the largest product. `argmax` visits one number after the other; these three
    passes use the vector unit, and the products' memory."""
    numbers = torch.arange(products.shape[1], dtype=products.dtype, device=products.device)
    return products.eq_(largest[:, None]).mul_(numbers[:, None]).amax(dim=1)


class _TokenSimilarity(torch.autograd.Function):
    """s_ij = sum_q share_iq max_k <query_iq, key_jk>.

    The maximum passes its gradient straight through to the key that was nearest, and to no other:
    with k*(i, q, j) the nearest key,

        d_query_iq = sum_j share_iq ds_ij key_jk*
        d_key_jk   = sum_iq share_iq ds_ij query_iq, of those queries whose nearest key is k

    So of the products' gradient one number in k isn't 0, and both are weighted sums of rows that
    are looked up (an `embedding_bag`), not products of matrices.
    """

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, shares: Tensor, hidden: Tensor | None, tile: int
    ) -> Tensor:
        tiles, q = _Tiles(queries, keys, hidden, tile), queries.shape[1]
        similarity, nearest = queries.new_empty(len(queries), len(keys)), None
        if any(ctx.needs_input_grad[:2]) and similarity.numel() * q <= KEPT:
            sizes = len(queries), q, len(keys)
            nearest = queries.new_empty(sizes, dtype=_small(keys.shape[1]))
        for columns in tiles.column_slices():
            some_keys = tiles.keys_of(columns)
            for rows in tiles.row_slices():
                products = tiles.products(rows, some_keys, columns)
                largest = products.amax(dim=1)
                if nearest is not None:
                    nearest[rows, :, columns] = _numbers(products, largest).unflatten(0, (-1, q))
                weighed = largest.mul_(shares[rows].reshape(-1, 1))
                similarity[rows, columns] = weighed.unflatten(0, (-1, q)).sum(dim=1)
        ctx.save_for_backward(queries, keys, shares, hidden, nearest)
        ctx.tile = tile
        return similarity

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        queries, keys, shares, hidden, nearest = ctx.saved_tensors
        with torch.autocast(queries.device.type, enabled=False):
            tiles = _Tiles(queries, keys, hidden, ctx.tile)
            d_queries, d_keys = torch.zeros_like(queries), torch.zeros_like(keys)
            for columns in tiles.column_slices():
                some_keys, count = tiles.keys_of(columns), columns.stop - columns.start
                for rows in tiles.many_row_slices():
                    if nearest is None:
                        numbers = tiles.nearest(rows, some_keys, columns)
                    else:
                        numbers = nearest[rows, :, columns].flatten(0, 1)
                    # Where the nearest keys stand among some_keys.
                    places = torch.arange(count, device=keys.device) + count * numbers.long()
                    passed = shares[rows, :, None] * gradients[0][rows, None, columns]
                    passed = passed.flatten(0, 1)
                    found = F.embedding_bag(
                        places, some_keys, per_sample_weights=passed, mode="sum"
                    )
                    d_queries[rows] += found.view_as(queries[rows])
                    found = _sum_by_place(
                        places, passed, queries[rows].flatten(0, 1), len(some_keys)
                    )
                    d_keys[columns] += found.unflatten(0, (-1, count)).transpose(0, 1)
        return d_queries, d_keys, None, None, None


def _sum_by_place(
    places: Integer[Tensor, "n columns"],
    weights: Float[Tensor, "n columns"],
    rows: Float[Tensor, "n width"],
    count: int,
) -> Float[Tensor, "count width"]:
    """For each of `count` places the sum of the rows that point to it, weighted."""
    by_place, order = places.flatten().sort(stable=True)
    starts = torch.searchsorted(by_place, torch.arange(count, device=places.device))
    return F.embedding_bag(
        order // places.shape[1],
        rows,
        starts,
        per_sample_weights=weights.flatten()[order],
        mode="sum",
    )
