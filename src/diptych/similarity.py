"""Inner products of many vectors with many others: fast, within a proven error, and exact.

The fast ones find the few pairs about which something is asked; what they can't decide is computed
exactly. Exact is: in float64, rounded to float32. So a pair has one score, whatever it is computed
beside, and equal vectors have equal scores; the sums of a float32 product depend on its shape.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_FEW = 4
"""Queries for which rounding the others' vectors to bfloat16 takes longer than it saves."""
_LENGTH = 1.01
"""Of vectors said to be of length 1, at most: float16 and old files round."""
_HALF = 2.0**-8
"""Rounding to bfloat16 moves a number by so much of it, at most."""
_SUM = 2.0**-22
"""The same of one addition in a product's sum: four times IEEE's float32, as some processors round
twice."""


def has_half_products() -> bool:
    """Whether this processor multiplies matrices in bfloat16 (AVX-512, AMX, Arm), summing in
    float32; one that doesn't would only pretend to, slowly."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()  # pyright: ignore[reportPrivateUsage]


class FastProducts:
    """Products of the same `queries` with one tile of vectors after the other, on the CPU.

    With q' and v' the rounded vectors, |q'·v' - q·v| <= |q' - q| |v'| + |q| |v' - v|, and the sums
    of a product of width w err by at most w additions' rounding: `error`. The result's own rounding
    keeps the order, so a bound that is rounded in the same way loses nothing.

    >>> import torch
    >>> from diptych.similarity import FastProducts, exact_products
    >>> queries, vectors = torch.eye(8), torch.full((3, 8), 8**-0.5)
    >>> fast = FastProducts(queries)
    >>> scores, exact = fast(vectors), exact_products(queries[0], vectors[0])
    >>> bool(scores[0, 0] >= fast.lowest(exact.expand(8))[0])
    True
    """

    def __init__(self, queries: Float[Tensor, "queries width"], longest: float = _LENGTH):
        """`longest`: what no other vector's length exceeds."""
        width = queries.shape[1]
        self._half = len(queries) >= _FEW and has_half_products()
        kind = torch.bfloat16 if self._half else torch.float32
        self._queries = queries.to(kind)
        lengths = torch.linalg.vector_norm(queries.float(), dim=1)
        moved = torch.linalg.vector_norm(self._queries.float() - queries.float(), dim=1)
        rounded = _HALF if self._half else 0.0
        inputs = (1 + rounded) * moved + rounded * lengths
        sums = width * _SUM * (1 + rounded) ** 2 * lengths
        self.error = longest * (inputs + sums)
        self._tile = torch.empty(0, width, dtype=kind)
        self._scores = torch.empty(0, dtype=kind)

    def __call__(self, tile: Float[Tensor, "rows width"]) -> Float[Tensor, "queries rows"]:
        """The products, which the next call overwrites: memory that is new costs half of the
        time."""
        rows, size = len(tile), len(tile) * len(self._queries)
        if tile.dtype != self._tile.dtype:
            if len(self._tile) < rows:
                self._tile = torch.empty_like(self._tile.new_empty(tile.shape))
            tile = self._tile[:rows].copy_(tile)
        if len(self._scores) < size:
            self._scores = self._scores.new_empty(size)
        scores = self._scores[:size].view(-1, rows)
        return torch.mm(self._queries, tile.T, out=scores)

    def lowest(self, edges: Float[Tensor, " queries"]) -> Float[Tensor, " queries"]:
        """What a product that is exactly the edge of its query, or more, has here at least."""
        return (edges - self.error).to(self._queries.dtype)

    def highest(self, edges: Float[Tensor, " queries"]) -> Float[Tensor, " queries"]:
        """What has more here is exactly more than the edge of its query."""
        return (edges + self.error).to(self._queries.dtype)


def exact_products(
    left: Float[Tensor, "*left width"], right: Float[Tensor, "*right width"]
) -> Float[Tensor, "*pairs"]:
    """Of each pair, to the last digit of float32."""
    return (left.double() * right.double()).sum(-1).float()


def exact_matrix(
    queries: Float[Tensor, "queries width"], vectors: Float[Tensor, "rows width"]
) -> Float[Tensor, "queries rows"]:
    """The same numbers, of all pairs."""
    return (queries.double() @ vectors.double().T).float()
