"""Texts of like length side by side: a batch in few pieces, each only as long as it must be.

A batch is padded to its longest text, and of a few hundred captions one nearly always fills the
context, while the median has a dozen tokens. Sorted by length and cut into pieces, the same rows
are three to four times fewer tokens.

The pieces stand behind one another as one tensor [tokens, ...], so that all but attention is one
product over them, and a block runs once however many there are: sharded weights are gathered once.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

Size = int | torch.SymInt
"""A symbol where a program for any batch and length is exported."""
Pieces = tuple[tuple[Size, Size], ...]
"""Of each piece its rows, and how many tokens each of them has."""

MOST = 5
"""Pieces of a batch."""
_STEP = 8
"""Lengths are multiples of it: products of such sizes are fast, and there are few of them."""
_PLACES = 32
"""Between so many equal groups of rows a batch may be cut."""


def cut_by_length(lengths: Sequence[int], longest: int) -> Pieces:
    """The pieces of rows sorted by falling length: those with the fewest tokens in all. `longest`:
    of the padded batch, which no piece exceeds.

    Their number depends on the number of rows alone.

    >>> from diptych.nn.text_pieces import cut_by_length
    >>> cut_by_length([5, 7, 30, 6, 8, 12, 20, 7], longest=77)
    ((2, 32), (2, 16), (2, 8), (2, 8))
    """
    rows = len(lengths)
    if not rows:
        return ((0, longest),)
    ordered = sorted(lengths, reverse=True)
    # At least two rows, and none left over for a last group: a compiler takes a single row for
    # something else than many, and compiles again.
    group = max(2, -(-rows // _PLACES))
    starts = [*range(0, max(1, rows - 1), group), rows]
    sizes = [min(longest, -(-ordered[start] // _STEP) * _STEP) for start in starts[:-1]]
    # fewest[j]: tokens of the rows before starts[j], and where they are cut, in as many pieces as
    # rounds have passed.
    fewest = {0: (0, (0,))}
    for _ in range(min(MOST, len(sizes))):
        fewest = {
            j: min(
                (tokens + (starts[j] - starts[i]) * sizes[i], (*cuts, starts[j]))
                for i, (tokens, cuts) in fewest.items()
                if i < j
            )
            for j in range(min(fewest) + 1, len(starts))
        }
    _, cuts = fewest[len(sizes)]
    return tuple((stop - start, sizes[start // group]) for start, stop in pairwise(cuts))


def cut(ids: Tensor, pieces: Pieces) -> list[Tensor]:
    """[batch, longest], rows sorted by falling length -> of each piece its [rows, length]."""
    rows = ids.split([rows for rows, _ in pieces])
    return [part[:, :length] for part, (_, length) in zip(rows, pieces, strict=True)]


def pad(parts: Sequence[Tensor], longest: int) -> Tensor:
    """Tokens [rows, length, width] of each piece -> [batch, longest, width], zeros behind
    them."""
    return torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])


def restored(x: Tensor, order: Tensor | None) -> Tensor:
    """The rows of `x[order]` where they were in `x`."""
    # Not an index by the inverse, whose gradient would be added up in any order.
    return x if order is None else torch.empty_like(x).index_copy(0, order, x)


def split(x: Tensor, pieces: Pieces) -> list[Tensor]:
    """[tokens, ...] -> a [rows, length, ...] of each piece, views of it."""
    parts = x.split([rows * length for rows, length in pieces])
    return [part.unflatten(0, shape) for part, shape in zip(parts, pieces, strict=True)]


def join(parts: Sequence[Tensor]) -> Tensor:
    """What `split` takes apart.

    >>> import torch
    >>> from diptych.nn.text_pieces import join, split
    >>> x = torch.arange(7)
    >>> [part.tolist() for part in split(x, ((1, 3), (2, 2)))]
    [[[0, 1, 2]], [[3, 4], [5, 6]]]
    >>> join(split(x, ((1, 3), (2, 2)))).equal(x)
    True
    """
    flat = [part.flatten(0, 1) for part in parts]
    return flat[0] if len(flat) == 1 else torch.cat(flat)
