"""The order is a permutation, another one for each epoch and seed, and needs no memory of what came
before."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data import order as order_module
from diptych.data.order import Order, permute


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
    """Chi-square of the item at each place over 1000 keys; the limit is eight standard deviations
    above the mean."""
    out = np.stack([permute(np.arange(size), size, (key,)) for key in range(1000)])
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
    large = replace(small, batch_size=10, first_step=5, first_taken=(30,))
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


@pytest.mark.parametrize("consecutive", [1, 8])
def test_no_sample_of_a_source_comes_again_before_all_of_it_came(consecutive):
    """Whatever the batch and the shares: each source goes through its own permutations."""
    order = Order((50, 20, 7), (0.5, 0.3, 0.2), batch_size=14, seed=3, consecutive=consecutive)
    rows = np.concatenate([order.batch(step) for step in range(20)])
    assert np.array_equal(order.taken(20), np.bincount(rows[:, 0]))
    for source, size in enumerate(order.sizes):
        own = rows[rows[:, 0] == source]
        for epoch in range(len(own) // size):
            part = own[epoch * size : (epoch + 1) * size]
            assert (part[:, 1] == epoch).all()
            assert sorted(part[:, 2]) == list(range(size))
            if consecutive == 1:
                alone = permute(np.arange(size), size, (3, source, epoch))
                assert np.array_equal(part[:, 2], alone)


def test_with_other_weights_and_another_batch_each_source_goes_on():
    before = Order((50, 20), (0.5, 0.5), batch_size=9, seed=0)
    after = replace(before, weights=(0.8, 0.2), batch_size=14, first_step=3)
    after = replace(after, first_taken=tuple(before.taken(3).tolist()))
    batches = [before.batch(step) for step in range(3)]
    batches += [after.batch(step) for step in range(3, 6)]
    rows = np.concatenate(batches)
    counts = np.bincount(rows[:, 0])
    assert np.array_equal(after.taken(6), counts)
    assert abs(counts[0] - (3 * 4.5 + 3 * 11.2)) < 2
    for source, size in enumerate(before.sizes):
        own = rows[rows[:, 0] == source][:, 2]
        assert np.array_equal(own, permute(np.arange(len(own)), size, (0, source, 0)))


def test_every_batch_of_a_mixture_has_its_shares():
    for resample in (False, True):
        order = Order((1000, 300, 50), (5.0, 2.0, 1.0), 32, seed=0, resample=resample)
        for step in range(20):
            batch = order.batch(step)
            assert np.bincount(batch[:, 0]).tolist() == [20, 8, 4]
            for part in batch.reshape(4, 8, 3):  # of four processes
                assert np.bincount(part[:, 0]).tolist() == [5, 2, 1]


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


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 700),
    consecutive=st.integers(1, 70),
    lanes=st.integers(1, 9),
    batch=st.integers(30, 300),
    seed=st.integers(0, 9),
)
def test_runs_give_each_sample_once_an_epoch(size, consecutive, lanes, batch, seed):
    """Whatever the run, the number of runs at a time and the batch; and an epoch ends where the
    next one begins."""
    order = Order((size,), (1.0,), batch_size=batch, seed=seed, consecutive=consecutive)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_module, "_LANES", lanes)
        rows = np.concatenate([order.batch(step) for step in range(-(-2 * size // batch))])
    for epoch in range(2):
        own = rows[epoch * size : (epoch + 1) * size]
        assert (own[:, 1] == epoch).all()
        assert np.array_equal(np.sort(own[:, 2]), np.arange(size))


def plain_runs(size: int, length: int, lanes: int, piece: int, shift: int, key) -> list[int]:
    """The order of runs as a loop: windows of runs, each giving a piece in turn."""
    runs = [int(run) for run in permute(np.arange(size // length), size // length, key)]
    windows = max(1, len(runs) // lanes)
    small, wider = divmod(len(runs), windows)
    found = []
    for window in range(windows):
        taken, runs = runs[: small + (window < wider)], runs[small + (window < wider) :]
        for first in range(0, length, piece):
            for run in taken:
                last = min(first + piece, length)
                found += range(run * length + first, run * length + last)
    found += range(size // length * length, size)
    return [(each + shift) % size for each in found]


@pytest.mark.parametrize(("size", "length"), [(2000, 40), (1999, 40), (500, 7), (64, 64), (50, 99)])
def test_runs_are_dealt_as_a_loop_would(monkeypatch, size, length):
    monkeypatch.setattr(order_module, "_LANES", 6)
    order = Order((size,), (1.0,), batch_size=size, seed=3, consecutive=length)
    for epoch in range(3):
        found, own = order.batch(epoch)[:, 2].tolist(), min(length, size)
        shifts = range(own)
        plain = [plain_runs(size, own, 6, 16, shift, (3, 0, epoch)) for shift in shifts]
        assert found in plain


def test_one_sample_a_run_is_the_order_of_samples():
    """Bit for bit what it was before there were runs: a permutation per epoch, a hash of the
    place."""
    order = Order((5000,), (1.0,), batch_size=5000, seed=9, consecutive=1)
    for epoch in range(2):
        expected = permute(np.arange(5000), 5000, (9, 0, epoch))
        assert np.array_equal(order.batch(epoch)[:, 2], expected)
    drawn = replace(order, resample=True).batch(0)[:, 2]
    assert drawn[:4].tolist() == [783, 4787, 1361, 215]


def test_runs_of_a_thousand_are_mixed_and_read_forward():
    """Of a million samples in runs of 256: each batch of 1,024 has 16 neighbours of 64 runs, which
    lie anywhere, and each run is read forward."""
    order = Order((1_000_000,), (1.0,), batch_size=1024, seed=0, consecutive=256)
    seen = np.concatenate([order.batch(step)[:, 2] for step in range(300)])
    steps = np.diff(seen)
    assert (steps == 1).mean() > 15 / 16 - 0.001
    batch = seen[:1024].reshape(64, 16)
    assert (np.diff(batch, axis=1) == 1).all()
    assert np.std(batch[:, 0]) > 200_000  # uniform: 288,675
    # A run that was met is met again at its next samples, one turn (1,024 to 2,047 runs) later.
    again = {int(seen[n]): n for n in range(0, len(seen), 16)}
    gaps = {again[first + 16] - again[first] for first in again if first + 16 in again}
    assert all(1024 * 16 <= gap < 2048 * 16 for gap in gaps if gap > 0)
    assert len(gaps) > 0


def test_mixtures_keep_runs_together_and_each_source_its_share():
    order = Order((40_000, 3000), (3.0, 1.0), batch_size=4096, seed=0, consecutive=64)
    rows = np.concatenate([order.batch(step) for step in range(64)])
    assert np.bincount(rows[:, 0]).tolist() == [196608, 65536]
    for source, size in enumerate(order.sizes):
        own = rows[rows[:, 0] == source]
        for epoch in (0, 1):
            assert sorted(own[own[:, 1] == epoch][:, 2]) == list(range(size))
        assert (np.diff(own[:size, 2]) == 1).mean() > 0.9
    assert np.array_equal(order.batch(3, slice(100, 900)), order.batch(3)[100:900])
    share = (rows[:4096, 0] == 0).mean()  # in every batch
    assert 0.65 < share < 0.85


def test_resampled_runs_begin_anywhere_and_keep_the_shares():
    order = Order((1000, 50), (3.0, 1.0), 1 << 14, seed=0, resample=True, consecutive=32)
    rows = np.concatenate([order.batch(step) for step in range(64)])
    for source, size in enumerate(order.sizes):
        own = rows[rows[:, 0] == source]
        neighbours = (np.diff(own[:, 2]) % size == 1).mean()
        assert neighbours > 0.9
        counts, expected = np.bincount(own[:, 2], minlength=size), len(own) / size
        assert abs(counts / expected - 1).max() < 0.6  # about 32 samples come together
        assert len(np.unique(own[:, 1])) == len(own)
    starts = rows[(rows[:, 0] == 0)][::16, 2]
    assert len(np.unique(starts)) > 900


def test_runs_and_another_batch_size_take_the_next_places():
    small = Order((700,), (1.0,), batch_size=6, seed=0, consecutive=24)
    whole = replace(small, batch_size=50).batch(0)
    large = replace(small, batch_size=10, first_step=5, first_taken=(30,))
    rows = [small.batch(step) for step in range(5)] + [large.batch(step) for step in (5, 6)]
    assert np.array_equal(np.concatenate(rows), whole)
