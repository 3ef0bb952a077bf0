"""The tiles of `late_interaction.token_similarity` in a GPU's registers (Triton: Tillet et al.
2019, doi:10.1145/3315508.3329973).

Each program holds one set's tokens and runs through the sets of the other side: products, maxima
and their mean never leave the chip. The tiled path is the reference. Triton comes with torch's CUDA
builds, so this module is imported only where a GPU computes; Triton's interpreter runs the same
programs on a CPU, slowly, for tests.
"""

# Parameters of the programs are pointers, blocks or numbers of the compiler's, which have no types:
# an annotation on them would mean a constant of the compiled program.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable


class TokenSimilarity(torch.autograd.Function):
    """`apply(queries [rows, q, width], keys [columns, k, width], shares [rows, q], hidden [columns,
    k] | None)` -> [rows, columns], all float32. `shares`: what each query counts. `hidden`: 0 for
    keys that are seen, -inf else."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, shares: Tensor, hidden: Tensor | None
    ) -> Tensor:
        queries, keys, shares = queries.contiguous(), keys.contiguous(), shares.contiguous()
        hidden = keys.new_zeros(keys.shape[:2]) if hidden is None else hidden.contiguous()
        ctx.save_for_backward(queries, keys, shares, hidden)
        similarity = queries.new_empty(len(queries), len(keys))
        sizes = _sizes(queries, keys)
        _similarity[len(queries),](queries, keys, shares, hidden, similarity, len(keys), **sizes)
        return similarity

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        queries, keys, shares, hidden = ctx.saved_tensors
        gradient, sizes = gradients[0].contiguous(), _sizes(queries, keys)
        d_queries, d_keys = torch.empty_like(queries), torch.empty_like(keys)
        rows, columns = gradient.shape
        given = queries, keys, shares, hidden, gradient
        _of_queries[rows,](*given, d_queries, columns, **sizes)
        _of_keys[columns,](*given, d_keys, rows, columns, **sizes)
        return d_queries, d_keys, None, None


def _sizes(queries: Tensor, keys: Tensor) -> dict[str, Any]:
    """Counts, and the powers of two that hold them; a matrix unit wants 16 at least."""
    counts = {"Q": queries.shape[1], "K": keys.shape[1], "W": keys.shape[2]}
    return counts | {
        f"{name}_BLOCK": max(16, triton.next_power_of_2(count)) for name, count in counts.items()
    }


@triton.jit
def _load(
    base, index, N: tl.constexpr, W: tl.constexpr, N_BLOCK: tl.constexpr, W_BLOCK: tl.constexpr
):
    """Set `index` of [sets, N, W]: [N_BLOCK, W_BLOCK], zeros beyond."""
    n, w = tl.arange(0, N_BLOCK)[:, None], tl.arange(0, W_BLOCK)[None]
    return tl.load(base + index * N * W + n * W + w, mask=(n < N) & (w < W), other=0.0)


@triton.jit
def _store(
    base,
    index,
    values,
    N: tl.constexpr,
    W: tl.constexpr,
    N_BLOCK: tl.constexpr,
    W_BLOCK: tl.constexpr,
):
    """The reverse of `_load`."""
    n, w = tl.arange(0, N_BLOCK)[:, None], tl.arange(0, W_BLOCK)[None]
    tl.store(base + index * N * W + n * W + w, values, mask=(n < N) & (w < W))


@triton.jit
def _share(shares, row, Q: tl.constexpr, Q_BLOCK: tl.constexpr):
    """What each query of a row counts; what isn't there counts nothing."""
    q = tl.arange(0, Q_BLOCK)
    return tl.load(shares + row * Q + q, mask=q < Q, other=0.0)


@triton.jit
def _compare(queries, keys, hidden, column, K: tl.constexpr, K_BLOCK: tl.constexpr):
    """[Q_BLOCK, K_BLOCK] dot products; keys that aren't there or aren't seen are infinitely far."""
    k = tl.arange(0, K_BLOCK)
    far = tl.load(hidden + column * K + k, mask=k < K, other=float("-inf"))
    return tl.dot(queries, tl.trans(keys), input_precision="ieee") + far[None]


@triton.jit
def _passed(products, share, gradient, K_BLOCK: tl.constexpr):
    """The gradient of the products: a query's nearest key gets all of the query's share."""
    chosen = tl.argmax(products, axis=1)[:, None] == tl.arange(0, K_BLOCK)[None]
    return tl.where(chosen, share[:, None] * gradient, 0.0)


# fmt: off
@triton.jit
def _similarity(
    queries, keys, shares, hidden, out, columns,
    Q: tl.constexpr, K: tl.constexpr, W: tl.constexpr,
    Q_BLOCK: tl.constexpr, K_BLOCK: tl.constexpr, W_BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    own, share = _load(queries, row, Q, W, Q_BLOCK, W_BLOCK), _share(shares, row, Q, Q_BLOCK)
    for column in range(columns):
        other = _load(keys, column, K, W, K_BLOCK, W_BLOCK)
        products = _compare(own, other, hidden, column, K, K_BLOCK)
        tl.store(out + row * columns + column, tl.sum(tl.max(products, axis=1) * share))


@triton.jit
def _of_queries(
    queries, keys, shares, hidden, gradient, out, columns,
    Q: tl.constexpr, K: tl.constexpr, W: tl.constexpr,
    Q_BLOCK: tl.constexpr, K_BLOCK: tl.constexpr, W_BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    own, share = _load(queries, row, Q, W, Q_BLOCK, W_BLOCK), _share(shares, row, Q, Q_BLOCK)
    total = tl.zeros([Q_BLOCK, W_BLOCK], tl.float32)
    for column in range(columns):
        other = _load(keys, column, K, W, K_BLOCK, W_BLOCK)
        products = _compare(own, other, hidden, column, K, K_BLOCK)
        passed = _passed(products, share, tl.load(gradient + row * columns + column), K_BLOCK)
        total += tl.dot(passed, other, input_precision="ieee")
    _store(out, row, total, Q, W, Q_BLOCK, W_BLOCK)


@triton.jit
def _of_keys(
    queries, keys, shares, hidden, gradient, out, rows, columns,
    Q: tl.constexpr, K: tl.constexpr, W: tl.constexpr,
    Q_BLOCK: tl.constexpr, K_BLOCK: tl.constexpr, W_BLOCK: tl.constexpr,
):
    column = tl.program_id(0).to(tl.int64)
    own = _load(keys, column, K, W, K_BLOCK, W_BLOCK)
    total = tl.zeros([K_BLOCK, W_BLOCK], tl.float32)
    for row in range(rows):
        other, share = _load(queries, row, Q, W, Q_BLOCK, W_BLOCK), _share(shares, row, Q, Q_BLOCK)
        products = _compare(other, own, hidden, column, K, K_BLOCK)
        passed = _passed(products, share, tl.load(gradient + row * columns + column), K_BLOCK)
        total += tl.dot(tl.trans(passed), other, input_precision="ieee")
    _store(out, column, total, K, W, K_BLOCK, W_BLOCK)
