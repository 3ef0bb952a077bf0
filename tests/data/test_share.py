"""`--data.share`: nested, drawn by its seed, for training alone."""

import numpy as np
import pytest

from diptych.config import DataConfig
from diptych.config.serialize import to_dict
from diptych.data import open_source
from diptych.data.share import rows_of_share


def opened(share, seed=0, path="synthetic:64", **rest):
    return open_source(DataConfig(path=path, share=share, share_seed=seed, **rest), split="train")


def test_smaller_shares_are_part_of_larger_ones_and_rise():
    shares = [rows_of_share(1000, share, 3) for share in (1 / 16, 1 / 4, 1.0)]
    assert [len(rows) for rows in shares] == [63, 250, 1000]
    assert set(shares[0]) < set(shares[1]) < set(shares[2])
    assert all((np.diff(rows) > 0).all() for rows in shares)
    assert shares[2].tolist() == list(range(1000))


def test_another_seed_draws_other_samples():
    one, other = (set(rows_of_share(1000, 0.25, seed).tolist()) for seed in (0, 1))
    # Of two independent quarters a sixteenth is shared: 62.5 of 1000, deviation 6.
    assert 35 < len(one & other) < 90


@pytest.mark.parametrize("size", [1, 7, 30])
def test_a_share_is_never_empty_and_is_not_rounded_up_by_floats(size):
    assert len(rows_of_share(size, 1e-3)) == 1
    assert len(rows_of_share(30, 0.1)) == 3


def test_a_source_is_cut_for_training_alone():
    few = opened(0.25)
    assert len(few) == 16
    rows = rows_of_share(64, 0.25)
    assert few.where(3)[1] == open_source(DataConfig(path="synthetic:64")).where(int(rows[3]))[1]
    assert len(open_source(DataConfig(path="synthetic:64", share=0.25))) == 64


def test_every_source_of_a_mixture_gives_its_share():
    mixed = opened(0.5, path="synthetic:64::synthetic:10", weights=(1.0, 2.0))
    assert [len(stream) for stream in mixed.streams] == [32, 5]
    assert mixed.weights == (1.0, 2.0)


def test_a_saved_configuration_without_it_keeps_its_text():
    assert "share" not in to_dict(DataConfig())
    assert to_dict(DataConfig(share=0.5))["share"] == 0.5
