"""Every batch of a mixture holds the weights' shares, and what was given takes no loop to know."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data.dealing import Deal, _floor_sum


@given(
    count=st.integers(0, 60),
    divisor=st.integers(1, 40),
    step=st.integers(0, 90),
    start=st.integers(0, 90),
)
def test_sums_of_rounded_multiples_are_those_of_a_loop(count, divisor, step, start):
    plain = sum((start + step * n) // divisor for n in range(count))
    assert _floor_sum(count, divisor, step, start) == plain


def test_five_rows_of_two_halves_by_hand():
    """The comb is laid at 0.5, then 0.618 further on each time, modulo 1. A first part of length
    2.5 meets floor(2.5 + 0.5) = 3 teeth, then floor(2.5 + 0.118) = 2, floor(2.5 + 0.736) = 3."""
    deal = Deal((1.0, 1.0), batch_size=5)
    sources = [deal.rows(step)[0] for step in range(3)]
    assert [np.bincount(source).tolist() for source in sources] == [[3, 2], [2, 3], [3, 2]]
    assert deal.given(3).tolist() == [8, 7]


def test_rows_of_one_source_by_hand():
    """Digits of 0..7 in reverse: 0 4 2 6 1 5 3 7. Teeth 0-3 are the first source's; a step later
    each row has the next tooth."""
    deal = Deal((2.0, 2.0), batch_size=8)
    source, before = deal.rows(0)
    assert source.tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert before.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert deal.rows(1)[0].tolist() == [0, 1, 0, 1, 0, 1, 1, 0]  # teeth 1 5 3 7 2 6 4 0


@settings(max_examples=40, deadline=None)
@given(
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    batch=st.integers(1, 150),
    first=st.integers(0, 10**6),
)
def test_each_batch_has_each_share_rounded_up_or_down(weights, batch, first):
    deal = Deal(tuple(weights), batch)
    shares = np.array(weights) / math.fsum(weights)
    had = deal.given(first)
    for step in range(first, first + 8):
        source, before = deal.rows(step)
        counts = np.bincount(source, minlength=len(weights))
        assert counts.sum() == batch
        assert (np.abs(counts - batch * shares) < 1 + 1e-6).all()
        for which, count in enumerate(counts.tolist()):
            assert before[source == which].tolist() == list(range(count))
        assert deal.given(step).tolist() == had.tolist()
        had = had + counts


@pytest.mark.parametrize("processes", [2, 4, 8])
@pytest.mark.parametrize("batch", [64, 96, 200])
def test_so_has_each_process_s_part(batch, processes):
    shares = (0.5, 0.3, 0.15, 0.05)
    deal = Deal(shares, batch)
    own = batch // processes
    leftovers = np.zeros((processes, len(shares)), int)
    for step in range(60):
        parts = deal.rows(step)[0].reshape(processes, own)
        counts = np.stack([np.bincount(part, minlength=len(shares)) for part in parts])
        assert (np.abs(counts - own * np.array(shares)) < 1 + 1e-9).all()
        leftovers += counts
    # No process has a source's odd row always.
    assert np.abs(leftovers / (60 * own) - shares).max() < 0.5 / own


def test_what_cannot_be_split_evenly_is_near():
    """Three processes, where the halves of a batch are even."""
    deal = Deal((0.5, 0.3, 0.2), batch_size=96)
    for step in range(20):
        for part in deal.rows(step)[0].reshape(3, 32):
            assert (np.abs(np.bincount(part, minlength=3) - [16, 9.6, 6.4]) < 2).all()


def test_shares_hold_over_a_billion_steps_of_one_sample():
    """0.7 of the steps give the first source one, to within a few."""
    deal = Deal((0.7, 0.2, 0.1), batch_size=1)
    given = deal.given(10**11)
    assert given.sum() == 10**11
    assert np.abs(given - np.array([0.7, 0.2, 0.1]) * 10**11).max() < 60
    assert given.dtype == np.int64
