"""The tiles of `late_interaction.token_similarity` in a GPU's registers (Triton: Tillet et al.
2019, doi:10.1145/3315508.3329973).

Each program has one set of tokens and runs through the sets of the other side: products, maxima and
their mean never leave the chip. A set isn't held whole: products are summed over slices of the
width, for which matrix units take three products in tf32, together as exact as one in float32. The
tiled path is the reference. Triton comes with torch's CUDA builds, so this module is imported only
where a GPU computes; Triton's interpreter runs the same programs on a CPU, slowly, for tests.
"""

# Parameters of the programs are pointers, numbers or constants of the compiler's, which have no
# types: an annotation on them would mean a constant of the compiled program.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

_SLICE = tl.constexpr(32)
"""Of the width, which is multiplied at a time."""


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
        given = queries, keys, shares, hidden
        _similarity[len(queries),](*given, similarity, **_sizes(queries, keys))
        return similarity

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        queries, keys, shares, hidden = ctx.saved_tensors
        given = queries, keys, shares, hidden, gradients[0].contiguous()
        d_queries, d_keys = torch.empty_like(queries), torch.empty_like(keys)
        sizes, width = _sizes(queries, keys), queries.shape[2]
        _of_queries[len(queries), triton.cdiv(width, sizes["WIDE"])](*given, d_queries, **sizes)
        _of_keys[len(keys), triton.cdiv(width, sizes["NARROW"])](*given, d_keys, **sizes)
        return d_queries, d_keys, None, None


def fits(queries: Tensor, keys: Tensor) -> bool:
    """Whether the GPU has the matrix units and the shared memory that the programs need for sets of
    these sizes."""
    gpu = torch.cuda.get_device_properties(queries.device)
    if torch.version.cuda is None or gpu.major < 8:  # tf32 came with Ampere
        return False
    return shared_memory(queries, keys) <= gpu.shared_memory_per_block_optin


def shared_memory(queries: Tensor, keys: Tensor) -> int:
    """Bytes that the programs need for sets of these sizes. They are compiled to tell it, which
    takes a second the first time."""
    return max(program.metadata.shared for program in compiled(queries, keys))


def compiled(queries: Tensor, keys: Tensor) -> list[Any]:
    """The three programs for sets of these sizes, as Triton compiles them for the GPU."""
    sizes, programs = _sizes(queries, keys), ((_similarity, 5), (_of_queries, 6), (_of_keys, 6))
    return [
        program.warmup(*[torch.float32] * pointers, grid=(1,), **sizes)
        for program, pointers in programs
    ]


def _sizes(queries: Tensor, keys: Tensor) -> dict[str, Any]:
    """Counts, and the blocks that hold them: powers of two; a matrix unit wants 16 at least."""
    rows, q, width = queries.shape
    columns, k, _ = keys.shape
    q_block, k_block, w_block = (max(16, triton.next_power_of_2(n)) for n in (q, k, width))
    counts = {"rows": rows, "columns": columns, "Q": q, "K": k, "W": width}
    blocks = {"Q_BLOCK": q_block, "K_BLOCK": k_block}
    # What a program has of the width of a gradient: what its registers hold, and, of the keys'
    # gradient, shared memory, through which all that matrix units multiply goes.
    parts = {
        "WIDE": min(w_block, 256),
        "NARROW": min(w_block, 128 if min(q_block, k_block) < 128 else 64),
    }
    return counts | blocks | parts | {"num_warps": 8, "num_stages": 3}


@triton.jit
def _load(base, index, n, w, N, W: tl.constexpr):
    """Of set `index` of [sets, N, W] the places w of its tokens n: zeros beyond."""
    inside = (n < N) & (w < W)
    return tl.load(base + tl.cast(index, tl.int64) * N * W + n * W + w, mask=inside, other=0.0)


@triton.jit
def _store(base, index, n, w, values, N, W: tl.constexpr):
    """The reverse of `_load`."""
    inside = (n < N) & (w < W)
    tl.store(base + tl.cast(index, tl.int64) * N * W + n * W + w, values, mask=inside)


@triton.jit
def _share(shares, row, Q, Q_BLOCK: tl.constexpr):
    """What each query of a row counts; what isn't there counts nothing."""
    q = tl.arange(0, Q_BLOCK)
    return tl.load(shares + tl.cast(row, tl.int64) * Q + q, mask=q < Q, other=0.0)


@triton.jit
def _pair(base, row, column, columns):
    """Where the number of a pair stands in [rows, columns]."""
    return base + tl.cast(row, tl.int64) * columns + column


# fmt: off
@triton.jit
def _compare(
    queries, keys, hidden, row, column, Q, K, W: tl.constexpr,
    Q_BLOCK: tl.constexpr, K_BLOCK: tl.constexpr,
):
    """[Q_BLOCK, K_BLOCK] dot products; keys that aren't there or aren't seen are infinitely far."""
    q, k = tl.arange(0, Q_BLOCK), tl.arange(0, K_BLOCK)
    products = tl.zeros([Q_BLOCK, K_BLOCK], tl.float32)
    for start in range(0, W, _SLICE):
        w = start + tl.arange(0, _SLICE)
        some = _load(queries, row, q[:, None], w[None], Q, W)
        others = _load(keys, column, k[:, None], w[None], K, W)
        products = tl.dot(some, tl.trans(others), products, input_precision="tf32x3")
    far = tl.load(
        hidden + tl.cast(column, tl.int64) * K + k, mask=k < K, other=float("-inf")
    )
    return products + far[None]


_NUMBERS = ["rows", "columns", "Q", "K"]
"""Not compiled for: captions have many lengths."""


@triton.jit(do_not_specialize=_NUMBERS)
def _similarity(
    queries, keys, shares, hidden, out, rows, columns, Q, K, W: tl.constexpr,
    Q_BLOCK: tl.constexpr, K_BLOCK: tl.constexpr, WIDE: tl.constexpr, NARROW: tl.constexpr,
):
    row = tl.program_id(0)
    share = _share(shares, row, Q, Q_BLOCK)
    for column in range(columns):
        products = _compare(queries, keys, hidden, row, column, Q, K, W, Q_BLOCK, K_BLOCK)
        tl.store(_pair(out, row, column, columns), tl.sum(tl.max(products, axis=1) * share))


@triton.jit(do_not_specialize=_NUMBERS)
def _of_queries(
    queries, keys, shares, hidden, gradient, out, rows, columns, Q, K, W: tl.constexpr,
    Q_BLOCK: tl.constexpr, K_BLOCK: tl.constexpr, WIDE: tl.constexpr, NARROW: tl.constexpr,
):
    row, w = tl.program_id(0), (tl.program_id(1) * WIDE + tl.arange(0, WIDE))[None]
    share, total = _share(shares, row, Q, Q_BLOCK), tl.zeros([Q_BLOCK, WIDE], tl.float32)
    for column in range(columns):
        products = _compare(queries, keys, hidden, row, column, Q, K, W, Q_BLOCK, K_BLOCK)
        nearest = tl.argmax(products, axis=1)[:, None]
        passed = share * tl.load(_pair(gradient, row, column, columns))
        total += passed[:, None] * _load(keys, column, nearest, w, K, W)
    _store(out, row, tl.arange(0, Q_BLOCK)[:, None], w, total, Q, W)


@triton.jit(do_not_specialize=_NUMBERS)
def _of_keys(
    queries, keys, shares, hidden, gradient, out, rows, columns, Q, K, W: tl.constexpr,
    Q_BLOCK: tl.constexpr, K_BLOCK: tl.constexpr, WIDE: tl.constexpr, NARROW: tl.constexpr,
):
    column, w = tl.program_id(0), (tl.program_id(1) * NARROW + tl.arange(0, NARROW))[None]
    q, k = tl.arange(0, Q_BLOCK)[:, None], tl.arange(0, K_BLOCK)[None]
    total = tl.zeros([K_BLOCK, NARROW], tl.float32)
    for row in range(rows):
        products = _compare(queries, keys, hidden, row, column, Q, K, W, Q_BLOCK, K_BLOCK)
        share = _share(shares, row, Q, Q_BLOCK)
        passed = share * tl.load(_pair(gradient, row, column, columns))
        # The gradient of the products: a query's nearest key gets all that the query passes on.
        nearest = tl.where(tl.argmax(products, axis=1)[:, None] == k, passed[:, None], 0.0)
        some = _load(queries, row, q, w, Q, W)
        total = tl.dot(tl.trans(nearest), some, total, input_precision="tf32x3")
    _store(out, column, tl.arange(0, K_BLOCK)[:, None], w, total, K, W)
