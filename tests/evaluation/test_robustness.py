"""The table of shifts."""

import pytest

from diptych.evaluation import robustness


def test_rows_of_shifts():
    table = robustness(
        {
            "a, zero-shot": {"in": 0.8, "v2": 0.6, "r": 0.4},
            "a, probe": {"in": 0.9, "v2": 0.6},
            "b": {"v2": 0.5},
            "c": {"in": 0.6, "v2": 0.6, "r": 0.6},
        },
        "in",
        ("v2", "r"),
    )
    assert [row.name for row in table] == ["c", "a, zero-shot", "a, probe"]
    assert (table[1].mean, table[1].drop) == pytest.approx((0.6, 0.2))
    assert table[2].shifts == {"v2": 0.6, "r": None}
    assert (table[2].mean, table[2].drop) == (None, None)
