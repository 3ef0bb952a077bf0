"""The order is a permutation, another one for each epoch and seed, and needs no memory of what came
before."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data.order import Order, permute
from diptych.errors import ConfigError


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 3000), key=st.integers(0, 1 << 63))
def test_permute_is_a_bijection(size, key):
    assert np.array_equal(np.sort(permute(np.arange(size), size, (key,))), np.arange(size))


def test_permute_needs_only_the_places_it_is_asked_for():
    whole = permute(np.arange(1000), 1000, (3,))
    assert np.array_equal(permute(np.array([17, 999, 0]), 1000, (3,)), whole[[17, 999, 0]])


def test_permute_reaches_places_beyond_32_bits():
    out = permute(np.arange(1000), 10**12, (0,))
    assert len(np.unique(out)) == 1000
    assert out.max() > 1 << 39


@pytest.mark.parametrize("size", [5, 40])
def test_every_item_is_equally_likely_at_every_place(size):
    """Chi-square of the item at each place over 4000 keys; the limit is eight standard deviations
    above the mean."""
    out = np.stack([permute(np.arange(size), size, (key,)) for key in range(4000)])
    counts = np.stack([np.bincount(column, minlength=size) for column in out.T])
    expected = len(out) / size
    chi = ((counts - expected) ** 2 / expected).sum()
    freedom = (size - 1) ** 2
    assert chi < freedom + 8 * np.sqrt(2 * freedom)


def test_neighbours_are_spread():
    """Consecutive places land far apart: no correlation of an item with the next one, none with its
    place."""
    out = permute(np.arange(100_000), 100_000, (1,)).astype(float)
    assert abs(np.corrcoef(out[1:], out[:-1])[0, 1]) < 0.02
    assert abs(np.corrcoef(out, np.arange(100_000))[0, 1]) < 0.02


def test_epochs_follow_without_a_gap_and_differ():
    order = Order(sizes=(100,), weights=(1.0,), batch_size=30, seed=0)
    rows = np.concatenate([order.batch(step) for step in range(10)])
    epochs = [rows[start : start + 100] for start in (0, 100, 200)]
    for number, epoch in enumerate(epochs):
        assert (epoch[:, 1] == number).all()
        assert sorted(epoch[:, 2]) == list(range(100))
    assert not np.array_equal(epochs[0][:, 2], epochs[1][:, 2])
    other = Order(sizes=(100,), weights=(1.0,), batch_size=30, seed=1)
    assert not np.array_equal(other.batch(0), order.batch(0))


def test_rows_of_a_batch_are_the_batch_in_parts():
    order = Order(sizes=(100, 7), weights=(2.0, 1.0), batch_size=32, seed=5)
    parts = [order.batch(3, slice(start, start + 8)) for start in range(0, 32, 8)]
    assert np.array_equal(np.concatenate(parts), order.batch(3))


def test_another_batch_size_takes_the_next_places():
    """Steps 0-4 of 6 took the places 0-29; steps of 10 from there take 30-39, 40-49."""
    small = Order(sizes=(100,), weights=(1.0,), batch_size=6, seed=0)
    whole = Order(sizes=(100,), weights=(1.0,), batch_size=50, seed=0).batch(0)
    large = replace(small, batch_size=10, first_step=5, first_sample=30)
    rows = [small.batch(step) for step in range(5)] + [large.batch(step) for step in (5, 6)]
    assert np.array_equal(np.concatenate(rows), whole)


def test_mixture_shares_are_exact_and_each_source_goes_through_its_own_epochs():
    order = Order(sizes=(1000, 300, 50), weights=(5.0, 2.0, 1.0), batch_size=1 << 14, seed=0)
    rows = np.concatenate([order.batch(step) for step in range(8)])  # two blocks of 65,536 places
    assert np.bincount(rows[: 1 << 16, 0]).tolist() == [40960, 16384, 8192]
    for source, size in enumerate(order.sizes):
        own = rows[rows[:, 0] == source]
        for epoch in range(len(own) // size):
            assert sorted(own[own[:, 1] == epoch][:, 2]) == list(range(size))
    first = rows[:1000, 0]
    assert 550 < (first == 0).sum() < 700  # mixed all along, not one after the other


def test_resampling_draws_with_replacement_and_keeps_the_shares():
    order = Order(sizes=(1000, 50), weights=(3.0, 1.0), batch_size=1 << 14, seed=0, resample=True)
    rows = np.concatenate([order.batch(step) for step in range(4)])
    assert np.bincount(rows[:, 0]).tolist() == [49152, 16384]
    for source, size in enumerate(order.sizes):
        own = rows[rows[:, 0] == source]
        counts, expected = np.bincount(own[:, 2], minlength=size), len(own) / size
        chi = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi - (size - 1)) < 5 * np.sqrt(
            2 * size
        )  # neither a permutation's 0 nor a poor hash's thousands
        assert len(np.unique(own[:, 1])) == len(own)
    assert np.array_equal(order.batch(3, slice(5, 9)), order.batch(3)[5:9])
    assert not np.array_equal(
        order.batch(0), Order(order.sizes, order.weights, 1 << 14, seed=1, resample=True).batch(0)
    )


def test_a_share_too_small_to_be_kept_is_refused():
    with pytest.raises(ConfigError, match="each share must be at least"):
        Order(sizes=(10, 10), weights=(1.0, 1e-7), batch_size=4, seed=0).batch(0)
