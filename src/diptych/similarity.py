"""Inner products of many vectors with many others: fast, within a proven error, and exact.

The fast ones find the few pairs about which something is asked; what they can't decide is computed
exactly. Exact is: in float64, rounded to float32. So a pair has one score, whatever it is computed
beside, and equal vectors have equal scores; the sums of a float32 product depend on its shape.
"""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

_FEW = 4
"""Queries for which rounding the others' vectors to bfloat16 takes longer than it saves."""
_LENGTH = 1.01
"""Of vectors said to be of length 1, at most: float16 and old files round."""
_HALF = 2.0**-8
"""Rounding to bfloat16 moves a number by so much of it, at most."""
_SUM = 2.0**-24
"""The same of one addition in float32."""
_PAIRS = 2**16
"""Numbers of exact products' vectors at a time: half a megabyte, which stays near the processor."""


def has_half_products() -> bool:
    """Whether this processor multiplies matrices in bfloat16 (AVX-512, AMX, Arm), summing in
    float32; one that doesn't would only pretend to, slowly."""
    if not torch.backends.mkldnn.is_available():
        return False
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()  # pyright: ignore[reportPrivateUsage]


def _may_round() -> bool:
    """Whether float32 products may round their inputs: torch.set_float32_matmul_precision."""
    products = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    return products.fp32_precision not in ("none", "ieee")


class FastProducts:
    """Products of the same `queries` with one tile of vectors after the other, on the CPU.

    With q' and v' the vectors as they are multiplied,

        |q'·v' - q·v| <= |q' - q| |v'| + |q| |v' - v|

    and the sums of a product of width w err by at most w + 4 additions' rounding, one of which is
    the exact product's and one that of a bound. That is `error`. Products of bfloat16 are rounded
    to it at last, which keeps their order: so a bound that is rounded as they are loses nothing.

        exact >= x   implies   fast >= rounded(x - error)
        fast > rounded(x + error)   implies   exact > x

    >>> import torch
    >>> from diptych.similarity import FastProducts, exact_matrix
    >>> queries, vectors = torch.eye(8), torch.full((3, 8), 8**-0.5)
    >>> fast, exact = FastProducts(queries), exact_matrix(queries, vectors)
    >>> bool(fast(vectors).reach(exact - fast.error[:, None]).all())
    True
    """

    error: Float[Tensor, " queries"]
    is_half: bool
    """Whether they are products of bfloat16."""

    def __init__(
        self,
        queries: Float[Tensor, "queries width"],
        *,
        longest: float = _LENGTH,
        moved: float | None = None,
        half: bool = True,
        held: bool = False,
    ):
        """`longest`: what no other vector's length exceeds; `moved`: how far bfloat16 moves none of
        them (`moved_by_half`), where that is known. `half`: in bfloat16, where the processor does
        and it pays, as it always does where the others are `held` in it."""
        queries = queries.float()
        self.is_half = half and (held or len(queries) >= _FEW) and has_half_products()
        self._queries = queries.bfloat16() if self.is_half else queries
        lengths = torch.linalg.vector_norm(queries, dim=1)
        # Units for bfloat16 round twice in a sum, each time by twice as much as IEEE says.
        additions = (queries.shape[1] + 4) * (4 if self.is_half else 1)
        self.error = additions * _SUM * longest * lengths
        if self.is_half or _may_round():
            others = _HALF * longest if moved is None else moved
            self.error *= (1 + _HALF) ** 2
            self.error += moved_by_half(queries) * longest * (1 + _HALF) + others * lengths
        self._tile = self._products = self._queries.new_empty(0)

    def __call__(self, tile: Float[Tensor, "rows width"]) -> "Products":
        """The products, which the next call overwrites: new memory would cost half of the time."""
        if tile.dtype != self._queries.dtype:
            self._tile = _with_room(self._tile, tile.numel())
            tile = self._tile[: tile.numel()].view(tile.shape).copy_(tile)
        shape = (len(self._queries), len(tile))
        size = shape[0] * shape[1]
        self._products = _with_room(self._products, size)
        return Products(torch.mm(self._queries, tile.T, out=self._products[:size].view(shape)))


class Products(NamedTuple):
    """What is asked of products of vectors."""

    matrix: Shaped[Tensor, "queries rows"]
    """In float32 or bfloat16."""

    def reach(
        self, bounds: Float[Tensor, "*any"], *, above: bool = False
    ) -> Bool[np.ndarray, "queries rows"]:
        """Which are at least the bounds, rounded as they are, or `above` them."""
        compare = np.greater if above else np.greater_equal  # a fifth of torch's time
        bounds = bounds.to(self.matrix.dtype)
        if self.matrix.dtype == torch.float32:
            return compare(self.matrix.numpy(), bounds.numpy())
        if not (bounds > 0).all():
            return compare(self.matrix.float().numpy(), bounds.float().numpy())
        # Bits, as whole numbers, are in the order of the numbers above 0, and less of all others.
        return compare(self.matrix.view(torch.int16).numpy(), bounds.view(torch.int16).numpy())


def reaching(threshold: float, dtype: torch.dtype) -> float:
    """The least product of unit vectors stored as `dtype` that reaches a threshold of cosines: that
    of equal ones may lack of 1 what rounding took of their lengths.

    >>> import torch
    >>> from diptych.similarity import reaching
    >>> reaching(0.9, torch.float32), reaching(1.0, torch.float32)
    (0.9, 0.999999)
    """
    return min(threshold, 1 - max(1e-6, torch.finfo(dtype).eps))


def moved_by_half(vectors: Float[Tensor, "rows width"]) -> Float[Tensor, " rows"]:
    """How far rounding to bfloat16 moves each vector.

    >>> import torch
    >>> from diptych.similarity import moved_by_half
    >>> moved_by_half(torch.tensor([[1.0, 0.5], [1 + 2**-8, 0.0]])).tolist() == [0, 2**-8]
    True
    """
    return torch.linalg.vector_norm(vectors.bfloat16().float() - vectors.float(), dim=1)


def exact_pairs(
    queries: Float[Tensor, "queries width"],
    query: Int[Tensor, " pairs"],
    vectors: Float[Tensor, "rows width"],
    row: Int[Tensor, " pairs"],
) -> Float[Tensor, " pairs"]:
    """The exact products of `queries[query]` and `vectors[row]`.

    >>> import torch
    >>> from diptych.similarity import exact_pairs
    >>> exact_pairs(torch.eye(2), torch.tensor([0, 1]), 3 * torch.eye(2), torch.tensor([0, 0]))
    tensor([3., 0.])
    """
    step = max(1, _PAIRS // queries.shape[1])
    parts = zip(query.split(step), row.split(step), strict=True)
    found = [queries[q].double().mul_(vectors[r]).sum(1) for q, r in parts]
    return torch.cat(found).float()


def reaching_pairs(
    queries: Float[Tensor, "queries width"],
    query: Int[Tensor, " pairs"],
    vectors: Float[Tensor, "rows width"],
    row: Int[Tensor, " pairs"],
    edges: Float[Tensor, " pairs"],
) -> Bool[Tensor, " pairs"]:
    """Which exact products of `queries[query]`, in order, and `vectors[row]` are at least `edges`.

    Those in float32 decide all but a few: a twentieth of the time.

    >>> import torch
    >>> from diptych.similarity import reaching_pairs
    >>> query, row = torch.tensor([0, 1]), torch.tensor([0, 0])
    >>> reaching_pairs(torch.eye(2), query, 3 * torch.eye(2), row, torch.tensor([3.0, 0.1]))
    tensor([ True, False])
    """
    scores = _single_pairs(queries, query, vectors, row)
    longest = [torch.linalg.vector_norm(each, dim=1).max() for each in (queries, vectors)]
    error = (queries.shape[1] + 4) * _SUM * longest[0] * longest[1]
    reached = scores >= edges
    near = ((scores - edges).abs() <= error).nonzero()[:, 0]
    reached[near] = exact_pairs(queries, query[near], vectors, row[near]) >= edges[near]
    return reached


def _single_pairs(
    queries: Tensor, query: Int[Tensor, " pairs"], vectors: Tensor, row: Int[Tensor, " pairs"]
) -> Float[Tensor, " pairs"]:
    """Products in float32. They are values of a sparse matrix, which copies no vector: that, not
    the products, is what takes time."""
    starts = torch.zeros(len(queries) + 1, dtype=torch.long)
    torch.cumsum(query.bincount(minlength=len(queries)), 0, out=starts[1:])
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # "in beta state"
        shape = len(queries), len(vectors)
        pairs = torch.sparse_csr_tensor(starts, row, torch.zeros(len(row)), shape)
        return torch.sparse.sampled_addmm(pairs, queries, vectors.T).values()


def exact_matrix(
    queries: Float[Tensor, "queries width"], vectors: Float[Tensor, "rows width"]
) -> Float[Tensor, "queries rows"]:
    """The same of all pairs."""
    return (queries.double() @ vectors.double().T).float()


def _with_room(buffer: Tensor, size: int) -> Tensor:
    return buffer if len(buffer) >= size else buffer.new_empty(size)
