"""Token-wise late interaction: two sets of tokens compared token by token (FILIP, Yao et al. 2021,
arXiv:2111.07783, equation 5).

The similarity of a query set and a key set is the mean over queries of the largest dot product with
a key. Between `rows` query sets of q tokens and `columns` key sets of k tokens that is rows x
columns x q x k dot products: `late_interaction_reference` makes them, as tests and small examples
can. `token_similarity` gives the same numbers and gradients and holds a tile of them at a time, in
the forward and in the backward pass.
"""

import importlib.util
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 1 << 19
"""Dot products held at a time. Two megabytes stay in a core's cache."""
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

    Each set needs a token that is seen. Memory: the tile, and copies of the arguments. On a GPU
    with Triton the tiles live in its registers. Where two keys are equally near, one of them gets
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
        # At most 64 columns, then as many rows as the tile has room for: keys are multiplied with
        # many queries before the next ones are fetched.
        self.columns = max(1, min(len(keys), 64, tile // (q * k)))
        self.rows = max(1, min(len(queries), tile // (q * k * self.columns)))
        self.buffer = queries.new_empty(self.rows * q * k * self.columns)

    def row_slices(self) -> Iterator[slice]:
        for start in range(0, len(self.queries), self.rows):
            yield slice(start, min(start + self.rows, len(self.queries)))

    def column_slices(self) -> Iterator[slice]:
        for start in range(0, self.keys.shape[1], self.columns):
            yield slice(start, min(start + self.columns, self.keys.shape[1]))

    def products(self, queries: Tensor, keys: Tensor, columns: slice) -> Tensor:
        """[row-queries, k, columns]. The buffer of the previous call is overwritten."""
        tile = self.buffer[: len(queries) * len(keys)].view(len(queries), len(keys))
        products = torch.mm(queries, keys.T, out=tile).view(len(queries), len(self.keys), -1)
        return products if self.hidden is None else products.add_(self.hidden[:, columns])


class _TokenSimilarity(torch.autograd.Function):
    """s_ij = sum_q share_iq max_k <query_iq, key_jk>.

    The maximum passes its gradient straight through to the key that was nearest, and to no other:
    with k*(i, q, j) the nearest key,

        d_query_iq = sum_j share_iq ds_ij key_jk*
        d_key_jk   = sum_iq share_iq ds_ij query_iq, of those queries whose nearest key is k

    The backward pass makes the products again: which key is nearest isn't kept (an index for each
    row, query and column), memory stays the tile's.
    """

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, shares: Tensor, hidden: Tensor | None, tile: int
    ) -> Tensor:
        ctx.save_for_backward(queries, keys, shares, hidden)
        ctx.tile = tile
        tiles = _Tiles(queries, keys, hidden, tile)
        similarity = queries.new_empty(len(queries), len(keys))
        for columns in tiles.column_slices():
            some_keys = tiles.keys[:, columns].flatten(0, 1)
            for rows in tiles.row_slices():
                nearest = tiles.products(queries[rows].flatten(0, 1), some_keys, columns).amax(
                    dim=1
                )
                weighed = nearest.mul_(shares[rows].reshape(-1, 1))
                similarity[rows, columns] = weighed.unflatten(0, (-1, queries.shape[1])).sum(dim=1)
        return similarity

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        queries, keys, shares, hidden = ctx.saved_tensors
        with torch.autocast(queries.device.type, enabled=False):
            tiles = _Tiles(queries, keys, hidden, ctx.tile)
            d_queries, d_keys = torch.zeros_like(queries), torch.empty_like(keys)
            for columns in tiles.column_slices():
                some_keys = tiles.keys[:, columns].flatten(0, 1)
                d_some_keys = torch.zeros_like(some_keys)
                for rows in tiles.row_slices():
                    some_queries = queries[rows].flatten(0, 1)
                    products = tiles.products(some_queries, some_keys, columns)
                    nearest = products.argmax(dim=1, keepdim=True)
                    passed = shares[rows, :, None] * gradients[0][rows, None, columns]
                    # The tile becomes the products' gradient: zero but for the nearest keys. Two
                    # matrix products with it are both equations.
                    products.zero_().scatter_(1, nearest, passed.flatten(0, 1)[:, None])
                    d_queries[rows].view_as(some_queries).addmm_(products.flatten(1), some_keys)
                    d_some_keys.addmm_(products.flatten(1).T, some_queries)
                d_keys[columns] = d_some_keys.unflatten(0, (len(tiles.keys), -1)).transpose(0, 1)
        return d_queries, d_keys, None, None, None
