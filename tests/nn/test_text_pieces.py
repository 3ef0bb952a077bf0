"""How a batch is cut by length."""

import random
from itertools import combinations, pairwise

import pytest
import torch

from diptych.nn.text_pieces import MOST, cut_by_length, join, split


def pieces_of(rows):
    """None has a single row if there are two."""
    return min(MOST, max(1, rows // 2))


def fewest_tokens(lengths, longest):
    """Of all ways to cut the sorted rows between pairs into as many pieces: tokens in multiples of
    8."""
    ordered = sorted(lengths, reverse=True)
    best = None
    for cuts in combinations(range(2, len(ordered) - 1, 2), pieces_of(len(ordered)) - 1):
        tokens = 0
        for start, stop in pairwise((0, *cuts, len(ordered))):
            tokens += (stop - start) * min(longest, -(-ordered[start] // 8) * 8)
        best = tokens if best is None else min(best, tokens)
    return best


@pytest.mark.parametrize("seed", range(20))
def test_no_other_cut_has_fewer_tokens(seed):
    draw = random.Random(seed)
    lengths = [draw.randint(1, 50) for _ in range(draw.randint(1, 14))]
    pieces = cut_by_length(lengths, longest=50)
    assert sum(rows * length for rows, length in pieces) == fewest_tokens(lengths, 50)
    assert len(pieces) == pieces_of(len(lengths))
    assert len(lengths) == 1 or min(rows for rows, _ in pieces) >= 2


def test_every_row_has_a_place_that_is_long_enough():
    draw = random.Random(0)
    for rows in (1, 31, 33, 100, 256, 1000):
        lengths = [min(77, draw.randint(3, 100)) for _ in range(rows)]
        pieces = cut_by_length(lengths, longest=77)
        rooms = [length for count, length in pieces for _ in range(count)]
        assert len(rooms) == rows
        assert all(a <= b for a, b in zip(sorted(lengths, reverse=True), rooms, strict=True))
        # One number of pieces for a number of rows, whatever the captions.
        assert len(pieces) == len(cut_by_length([77] * rows, longest=77))


def test_rows_of_like_length_are_few_tokens():
    draw = random.Random(0)
    lengths = [min(77, max(4, round(draw.lognormvariate(2.5, 0.52)))) for _ in range(256)]
    assert sum(rows * length for rows, length in cut_by_length(lengths, 77)) < 256 * 77 / 3.5


def test_none():
    [(rows, length)] = cut_by_length([], longest=5)
    x = torch.zeros(0, 3)
    assert join(split(x, ((rows, length),))).equal(x)
