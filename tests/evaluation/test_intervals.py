"""Intervals cover as often as they say; paired tests on known cases; per-sample results survive
their file."""

import numpy as np
import pytest
from scipy.stats import binomtest

from diptych.errors import DataError
from diptych.evaluation import (
    Interval,
    Paired,
    PerSample,
    bootstrap_mean,
    bootstrap_means,
    mean_of_shares,
    paired_test,
    smallest_difference,
    verdicts,
    wilson,
)

Z = 1.959964


def per_sample(right: np.ndarray, clusters: np.ndarray | None = None) -> PerSample:
    return PerSample.of((~right).astype(np.int64), [str(i) for i in range(len(right))], clusters)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (8, 10), (10, 10), (712, 1000)])
def test_wilson_is_scipys(right, n):
    peer = binomtest(right, n).proportion_ci(method="wilson")
    found = wilson(right, n)
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=1e-12)


def share_covered(truth: float, intervals: list[Interval]) -> float:
    return sum(interval.low <= truth <= interval.high for interval in intervals) / len(intervals)


def test_intervals_of_independent_samples_cover():
    generator = np.random.default_rng(0)
    samples = generator.random((300, 400)) < 0.7
    assert 0.91 <= share_covered(0.7, [bootstrap_mean(row, draws=500) for row in samples]) <= 0.985
    assert 0.91 <= share_covered(0.7, [wilson(int(row.sum()), 400) for row in samples]) <= 0.985


def test_intervals_of_clusters_cover_where_those_of_samples_do_not():
    """Five captions of a picture are found or missed together."""
    generator = np.random.default_rng(0)
    clusters = np.arange(500) // 5
    samples = [(generator.random(100) < 0.6).repeat(5) for _ in range(200)]
    assert share_covered(0.6, [bootstrap_mean(row, clusters, draws=500) for row in samples]) >= 0.9
    assert share_covered(0.6, [bootstrap_mean(row, draws=500) for row in samples]) <= 0.8


def test_mean_per_class_has_its_own_interval():
    generator = np.random.default_rng(0)
    labels = np.array([0] * 380 + [1] * 20)
    truth = np.array([0.9, 0.5])
    found = [mean_of_shares(generator.random(400) < truth[labels], labels) for _ in range(200)]
    assert 0.9 <= share_covered(0.7, found) <= 0.99


def test_all_right_and_all_wrong_are_no_certainties():
    """z^2 = 3.8415: of n right of n the interval ends at n / (n + z^2), of none at z^2 / (n + z^2),
    whatever it is a mean of."""
    every, none, owners = np.ones(120, bool), np.zeros(120, bool), np.arange(120) // 3
    for right in (every, every.astype(float)):
        for found in (wilson(40, 40), bootstrap_mean(right, owners)):
            assert (found.low, found.high) == pytest.approx((0.91238, 1.0), abs=1e-5)
    both = [(none, owners), (none[:40], np.arange(40))]
    for found in (bootstrap_mean(none, owners), bootstrap_means(both)):
        assert (found.low, found.high) == pytest.approx((0.0, 0.08762), abs=1e-5)
    # Ten classes of 4: each ends 3.8415 / 7.8415 = 0.48989 from 1; sqrt(10 * 0.48989^2) / 10.
    found = mean_of_shares(every[:40], np.arange(40) % 10)
    assert (found.low, found.high) == pytest.approx((1 - 0.15492, 1.0), abs=1e-5)


def test_one_group_is_wilsons():
    assert mean_of_shares(np.arange(50) < 31, np.zeros(50, int)) == wilson(31, 50)


def test_the_difference_by_hand():
    """b, c, n = 5, 1, 100: d = -4 / 102, and sqrt((7 / 102 - d^2) / 102) = 0.0256465."""
    right = np.arange(100)
    found = paired_test(per_sample(right < 60), per_sample((right >= 5) & (right < 61))).difference
    assert found.value == pytest.approx(-0.04)
    assert (found.low, found.high) == pytest.approx((-0.0894818, 0.0110505), abs=1e-6)


def test_models_that_never_disagree_on_captions_that_share_a_picture():
    clusters, right = np.arange(20) // 5, np.ones(20, bool)
    found = paired_test(per_sample(right, clusters), per_sample(right, clusters)).difference
    assert (found.low, found.high) == pytest.approx((-Z / 6, Z / 6))


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).random(500)
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values) != bootstrap_mean(values, seed=1)


def test_mcnemar_by_hand():
    """Six samples differ, five of them one way: 2 (1 + 6) / 2^6."""
    one = np.array([True] * 51 + [False] * 49)
    other = np.array([False] * 5 + [True] * 47 + [False] * 48)
    found = paired_test(per_sample(one), per_sample(other))
    assert (found.only_first, found.only_second) == (5, 1)
    assert found.p_value == pytest.approx(2 * (1 + 6) / 2**6)
    assert found.difference.value == pytest.approx(-0.04)
    assert found.difference.low < -0.04 < found.difference.high
    assert paired_test(per_sample(one), per_sample(one)).p_value == 1.0


def test_clusters_count_once():
    """Twenty captions of four pictures: 2 of 16 signs are as far from zero, not 2 of a million."""
    clusters = np.arange(20) // 5
    found = paired_test(
        per_sample(np.zeros(20, bool), clusters), per_sample(np.ones(20, bool), clusters)
    )
    assert found.p_value == pytest.approx(2 / 16, abs=0.005)


def test_holm_by_hand():
    paired = {
        "n": 9,
        "first": 0.5,
        "second": 0.6,
        "difference": Interval(value=0.1, low=0.0, high=0.2),
    }
    paired |= {"only_first": 0, "only_second": 1}
    found = verdicts(
        {name: Paired(**paired, p_value=p) for name, p in (("a", 0.04), ("b", 0.01), ("c", 0.03))}
    )
    assert [verdict.p_value for verdict in found] == pytest.approx([0.06, 0.03, 0.06])
    assert [verdict.real for verdict in found] == [False, True, False]
    assert str(found[0]).startswith("a: no real difference, +10.00 points")


def test_the_smallest_difference_is_found_as_often_as_said():
    generator = np.random.default_rng(0)
    n, disagreement = 1000, 0.2
    gain = smallest_difference(n, disagreement)
    share = np.array([disagreement / 2 + gain / 2, disagreement / 2 - gain / 2, 1 - disagreement])
    counts = generator.multinomial(n, share, 400)
    found = sum(binomtest(int(a), int(a + b)).pvalue < 0.05 for a, b, _ in counts) / 400
    assert found == pytest.approx(0.8, abs=0.07)


def test_per_sample_results_survive_their_file_and_are_small(tmp_path):
    generator = np.random.default_rng(0)
    kept = PerSample.of(
        generator.integers(0, 200, 5000), map(str, range(5000)), np.arange(5000) // 5
    )
    path = kept.save(tmp_path / "new" / "result.npz")
    read = PerSample.load(path)
    assert (read.ranks == kept.ranks).all()
    assert (read.clusters == kept.clusters).all()
    assert read.names_sha256 == kept.names_sha256
    assert path.stat().st_size < 6000
    assert [file.name for file in path.parent.iterdir()] == ["result.npz"]


def test_other_files_and_other_samples_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("nothing")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name in ("text.npz", "other.npz", "single.npy", "missing.npz"):
        with pytest.raises(DataError, match=f"{name} holds no per-sample results"):
            PerSample.load(tmp_path / name)
    right = np.ones(3, bool)
    with pytest.raises(DataError, match="different samples"):
        paired_test(per_sample(right), PerSample.of(np.zeros(3, np.int64), ["0", "2", "1"]))
    found = paired_test(per_sample(right), per_sample(right)).difference
    # (b, c, n) = (0, 0, 3): sqrt((1 - 0) / 25) = 0.2.
    assert (found.low, found.high) == pytest.approx((-0.2 * Z, 0.2 * Z))
