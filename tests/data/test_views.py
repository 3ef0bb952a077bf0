"""The views that an objective asks for, through the loader."""

from dataclasses import replace

import pytest
import torch

from diptych.batch import Views
from diptych.config import AugmentConfig, PreprocessConfig, StrongConfig, WordsConfig
from diptych.data import Loader, open_source, write_shards
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.inputs import ClipTokenizer, DeclipTokenizer, Preprocess
from tests.data.builders import Spelling, config, read, samples

ALL = Views(image=("plain", "strong", "strong"), text=("plain", "augmented", "masked"))
PREPROCESS = Preprocess(PreprocessConfig(), 16)


@pytest.fixture
def data(tmp_path):
    write_shards(tmp_path / "shards", samples(24), per_shard=10)
    words = WordsConfig(hide=0.5)
    return config(tmp_path, tmp_path / "shards", augment=AugmentConfig(), words=words, workers=0)


def load(data, views=ALL, tokenizer=None, steps=4, **options):
    options = {
        "preprocess": PREPROCESS,
        "tokenizer": tokenizer or Spelling(),
        "batch_size": 8,
        "seed": 3,
    } | options
    return list(Loader(open_source(data), data, views=views, steps=steps, **options))


def same(one, other):
    def tensors(batch):
        return (*batch.images, *batch.texts, batch.mlm_labels)

    pairs = [
        pair
        for batches in zip(one, other, strict=True)
        for pair in zip(*map(tensors, batches), strict=True)
    ]
    return all(torch.equal(a, b) for a, b in pairs)


def test_every_view_is_of_the_same_pair(data):
    for batch in load(data):
        plain, augmented, masked = map(read, batch.texts)
        assert plain == [f"picture {number}" for number in batch.index.tolist()]
        assert all(
            set(changed.split()) & set(text.split()) for changed, text in zip(augmented, plain)
        )
        shown = torch.where(batch.mlm_labels == -100, batch.texts[2], batch.mlm_labels)
        assert read(shown) == plain
        assert [len(text) for text in masked] == [len(text) for text in plain]


def test_strong_views_differ_from_each_other_and_from_the_plain_one(data):
    for batch in load(replace(data, strong=StrongConfig(jitter=1.0, brightness=1.0))):
        plain, first, second = batch.images
        assert all(
            (a - b).abs().max() > 0 for a, b in ((plain, first), (plain, second), (first, second))
        )


def test_resumed_and_split_batches_are_the_same(data):
    whole = load(data)
    assert same(load(data, start_step=2), whole[2:])
    assert same(load(replace(data, workers=2)), whole)
    half = load(data, peers=Peers(rank=1, size=2))
    assert all(torch.equal(part.images[1], batch.images[1][4:]) for part, batch in zip(half, whole))


def test_colours_may_change_on_the_device(data):
    assert same(load(replace(data, strong_on="device")), load(data))


def test_a_plain_view_does_not_depend_on_what_follows_it(data):
    alone = load(data, Views())
    assert all(torch.equal(a.images[0], b.images[0]) for a, b in zip(alone, load(data)))
    assert all(batch.mlm_labels is None for batch in alone)


@pytest.mark.parametrize("who", ["objective", "tower"])
def test_whole_length(data, who):
    """The objective may ask for it, or a tower that sees padding; masked words' labels follow."""
    tokenizer = DeclipTokenizer(20)
    tokenizer.whole_length = who == "tower"
    [batch] = load(data, replace(ALL, whole_length=who == "objective"), tokenizer, steps=1)
    assert {text.shape for text in batch.texts} == {batch.mlm_labels.shape} == {(8, 20)}


def test_a_batch_can_be_cut_and_moved(data):
    [batch] = load(data, steps=1)
    part = batch.rows(2, 5).to(torch.device("cpu"))
    assert torch.equal(part.mlm_labels, batch.mlm_labels[2:5])
    assert len(part) == 3


def test_a_tokenizer_without_a_mask_is_refused(data):
    with pytest.raises(ConfigError, match="mask token"):
        load(data, tokenizer=ClipTokenizer())
