"""The pictures of a query in their order, for who scrolls on: looked for as they are asked for."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.search import Hit, Index, Where

ALIKE = 0.97
"""Cosine from which on two pictures are nearly the same, as `diptych duplicates` has it."""
_FIRST = 240
"""Pictures that are looked for at first; each time more are asked for, four times as many."""
_MOST, _MOST_COMPARED = 60_000, 3_000
"""Pictures of a query, at most; the same where each is compared with those before it."""


@dataclass(frozen=True)
class Found:
    """A picture of an answer."""

    hit: Hit
    alike: int = 0
    """Pictures after it that are nearly the same, and were left out."""


class Ranking:
    """The pictures nearest to a vector, the best first, among those that fulfil `where`;
    `is_distinct`: without those that are nearly what stands before them."""

    def __init__(
        self,
        index: Index,
        vector: Float[Tensor, " width"],
        where: Where | None,
        is_distinct: bool,
    ):
        self._index, self._vector, self._where = index, vector, where
        self._is_distinct = is_distinct
        self._most = _MOST_COMPARED if is_distinct else _MOST
        self._found, self._top, self._is_whole = list[Found](), 0, False

    def part(self, first: int, last: int) -> tuple[list[Found], bool]:
        """Those from place `first` to `last`, and whether there are more."""
        while len(self._found) <= last and not self._is_whole:
            self._top = 4 * self._top or _FIRST
            hits = self._index.search(self._vector, self._top, where=self._where)
            self._is_whole = len(hits) < self._top or self._top >= self._most
            self._found = self._distinct(hits) if self._is_distinct else list(map(Found, hits))
        return self._found[first:last], last < len(self._found)

    def _distinct(self, hits: list[Hit]) -> list[Found]:
        rows = [hit.row for hit in hits]
        return [Found(hits[place], alike) for place, alike in distinct(self._index.vectors[rows])]


def distinct(vectors: Float[Tensor, "some width"]) -> list[tuple[int, int]]:
    """Of unit vectors, the places of those that are nearly the same as none that is kept before
    them, and how many after each were left out for its sake.

    >>> import torch
    >>> from diptych.app.ranking import distinct
    >>> distinct(torch.eye(2)[[0, 0, 1, 0]])
    [(0, 2), (2, 0)]
    """
    exact = vectors.float()
    near = exact @ exact.T >= ALIKE
    kept, counts = torch.zeros(len(exact), dtype=torch.bool), [0] * len(exact)
    for place in range(len(exact)):
        same = near[place] & kept
        if same.any():
            counts[int(same.int().argmax())] += 1
        else:
            kept[place] = True
    return [(place, counts[place]) for place in kept.nonzero()[:, 0].tolist()]
