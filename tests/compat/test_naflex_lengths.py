"""Texts of like lengths come together."""

import pickle
import random

import pytest
import torch

from diptych.compat.open_clip_train.data import SharedEpoch
from diptych.compat.open_clip_train.naflex_data import CaptionLength, LengthBucketer
from diptych.errors import ConfigError

RNG = random.Random(0)
SAMPLES = [{"text": torch.zeros(RNG.randrange(80)), "row": row} for row in range(300)]


def rows(stage):
    return [sample["row"] for sample in stage(iter(SAMPLES))]


def test_each_pool_comes_in_runs_of_like_lengths():
    made = pickle.loads(pickle.dumps(LengthBucketer(pool=128, chunk=32)))
    found = rows(made)
    for first in range(0, 300, 128):
        assert sorted(found[first : first + 128]) == [*range(first, min(first + 128, 300))]
    lengths = [len(SAMPLES[row]["text"]) for row in found[:128]]
    runs = sorted(lengths[first : first + 32] for first in range(0, 128, 32))
    assert [length for run in runs for length in run] == sorted(lengths) != lengths


def test_the_order_is_of_the_seed_and_the_epoch():
    shared = SharedEpoch(1)
    options = [{"epoch": 1}, {"epoch": shared}, {"epoch": 2}, {"epoch": 1, "seed": 7}]
    found = [rows(LengthBucketer(pool=100, chunk=10, **option)) for option in options]
    assert found[0] == found[1]
    assert found[0] not in found[2:]
    shared.set_value(2)
    assert rows(LengthBucketer(pool=100, chunk=10, epoch=shared)) == found[2]


def test_lengths_are_added():
    samples = [{"text": "x" * 5}, {"sound": "x" * 3, "text": "x"}, {"sound": "xx"}]
    stage = LengthBucketer([CaptionLength(), CaptionLength("sound")], chunk=3)
    assert list(stage(samples)) == [samples[2], samples[1], samples[0]]
    for sizes in ({"pool": 0}, {"chunk": 0}):
        with pytest.raises(ConfigError, match="1 or more"):
            LengthBucketer(**sizes)
