"""What is said of a mixture before a run, and when it is refused."""

from dataclasses import replace

import pytest

from diptych.config import DataConfig
from diptych.data import Order, open_source
from diptych.data.mixture import mixture_of
from diptych.errors import ConfigError

TWO = "synthetic:1000::synthetic:50"


def parts_of(steps=100, batch_size=20, path=TWO, resample=False, **mixed):
    source = open_source(DataConfig(path=path, **mixed))
    sizes = tuple(map(len, source.streams))
    order = Order(sizes, source.weights, batch_size, seed=0, resample=resample)
    return mixture_of(source, order, steps)


def test_upsampling_factors_are_of_the_sources_sizes():
    """1,000 once and 50 twice: 1,100, of which 1,000 / 1,100 are the first one's. 2,200 rows are
    two epochs of it and four of the second one."""
    source = open_source(DataConfig(path=TWO, upsample=(1.0, 2.0)))
    assert source.weights == (1000, 100)
    first, second = parts_of(steps=100, batch_size=22, upsample=(1.0, 2.0))
    assert str(first) == (
        "source 1, synthetic:1000: 1,000 samples, 90.9 % of every batch (20 of 22), 2 epochs in "
        "100 steps"
    )
    assert str(second) == (
        "source 2, synthetic:50: 50 samples, 9.09 % of every batch (2 of 22), 4 epochs in 100 steps"
    )
    assert first.remarks == second.remarks == ()


def test_only_relations_of_the_factors_count():
    assert [part.share for part in parts_of(upsample=(0.5, 1.0))] == [
        part.share for part in parts_of(upsample=(2.0, 4.0))
    ]


def test_a_share_that_is_no_whole_number_of_rows_and_what_is_drawn():
    _, second = parts_of(weights=(0.97, 0.03), resample=True)
    said = "3 % of every batch (0 or 1 of 20), drawn at random, as many as 1.2 epochs"
    assert said in str(second)


def test_a_source_alone_and_one_without_weights_are_no_mixture():
    assert parts_of(path="synthetic:1000") == []
    assert parts_of() == []


def test_a_source_that_gives_nothing_is_refused_by_name():
    with pytest.raises(ConfigError) as refused:
        parts_of(weights=(1.0, 1e-6))
    assert str(refused.value) == (
        "source 2, synthetic:50 has a share of 1e-06 in the mixture, and so gives no sample in 100 "
        "steps of 20; give it at least 0.0005 of the sum (--data.weights, --data.upsample), or "
        "leave it out of --data.path"
    )


def test_a_starved_source_is_said():
    """Half of the samples each; the second one's share is under a 50th of its half: 1 %."""
    path = "synthetic:1000::synthetic:1000"
    first, second = parts_of(path=path, weights=(101.0, 1.0), steps=1000)
    [said] = second.remarks
    assert said.startswith(
        "source 2, synthetic:1000 is starved: it is 0.98 % of every batch, and 50 %"
    )
    assert "so 196 of its 1,000 samples are seen in 1,000 steps" in said
    assert first.remarks == ()
    assert parts_of(path=path, weights=(99.0, 1.02), steps=1000)[1].remarks == ()


def test_less_than_a_sample_an_epoch_is_starved():
    """Five of 1,005 samples with a share of 1 / 1,500: more than a 50th, and less than one in an
    epoch of 1,005."""
    path = "synthetic:1000::synthetic:5"
    assert "is starved" in parts_of(path=path, weights=(1499.0, 1.0), steps=1000)[1].remarks[0]
    assert parts_of(path=path, weights=(899.0, 1.0), steps=1000)[1].remarks == ()


def test_a_source_that_is_repeated_more_than_fifty_times_is_said():
    """Half of 1,000 batches of 6 are 3,000 rows: sixty times 50, and three times 1,000."""
    first, second = parts_of(weights=(1.0, 1.0), steps=1000, batch_size=6)
    assert first.remarks == ()
    assert "each of its 50 samples is seen 60 times in 1,000 steps" in second.remarks[0]
    assert parts_of(weights=(1.0, 1.0), steps=800, batch_size=6)[1].remarks == ()
    # As often as all others is no matter of the mixture.
    assert parts_of(upsample=(1.0, 1.0), steps=10_500, batch_size=20)[1].remarks == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights": (1.0, 0.0)}, "--data.weights 0 of synthetic:50 must be above 0; to take not"),
        ({"weights": (-1.0, 1.0)}, "--data.weights -1 of synthetic:1000 must be above 0"),
        ({"upsample": (1.0, float("nan"))}, "--data.upsample nan of synthetic:50 must be above 0"),
        ({"upsample": (1.0, float("inf"))}, "--data.upsample .* inf must be"),
        ({"upsample": (1.0,)}, "--data.upsample has 1 numbers for 2 sources"),
        ({"upsample": (1.0, 2.0), "weights": (1.0, 2.0)}, "leave one of them out"),
    ],
)
def test_numbers_that_mix_nothing_are_refused(change, says):
    with pytest.raises(ConfigError, match=says):
        replace(DataConfig(path=TWO), **change)
