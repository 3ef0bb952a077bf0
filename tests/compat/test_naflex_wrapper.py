"""Batches of patches with texts of many lengths, and of data sets with indices."""

import sys

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms.functional import to_tensor

from diptych.compat.open_clip_train.data import SharedEpoch
from diptych.compat.open_clip_train.naflex_data import (
    NaFlexBatcher,
    NaFlexBatchScheduler,
    NaFlexMapDatasetWrapper,
)
from diptych.errors import ConfigError
from tests.compat.test_train_naflex import SMALL, factory, samples

PAIRS = list(samples(8))


def wrapper(**options):
    options = SMALL | {"transform_factory": factory} | options
    return NaFlexMapDatasetWrapper(PAIRS, **options)


def texts(batches):
    return [text for batch in batches for (text,) in batch["text"].tolist()]


def test_texts_of_many_lengths_are_padded_and_count_in_the_budget():
    options = SMALL | {"transform_factory": factory, "pad_id": 9, "per_row_text_tokens": 4}
    pairs = [{**pair, "text": torch.arange(n)} for n, pair in enumerate(PAIRS[1:4], 1)]
    made = NaFlexBatchScheduler(train_num_samples=3, **options)
    batch = made.collate_batch(pairs, seq_len=4, patch_idx=0)
    assert batch["text"].tolist() == [[0, 9, 9], [0, 1, 9], [0, 1, 2]]
    assert batch["text_valid"].sum(1).tolist() == [1, 2, 3]
    assert batch["image"]["patches"].shape == (3, 4, 48)
    assert torch.equal(batch["image"]["patches"][0, 0, :3], to_tensor(pairs[0]["image"])[:, 0, 0])
    found = list(NaFlexBatcher(train_num_samples=3, **options).run(pairs))
    assert [one["text_valid"].tolist() for one in found] == [[[True] * n] for n in (1, 2, 3)]
    for shape in ((5, 0), (4, 1), (4, -1)):
        with pytest.raises(ConfigError, match="no batch is of"):
            made.collate_batch(pairs, *shape)
    with pytest.raises(ConfigError, match="per_row_text_tokens"):
        NaFlexBatchScheduler(train_num_samples=3, **options | {"per_row_text_tokens": -1})


def test_sizes_of_patches_have_their_place():
    sizes = {"patch_size": None, "patch_size_choices": [4, (2, 4)], "seq_lens": [4]}
    made = NaFlexBatchScheduler(train_num_samples=8, **SMALL | sizes, transform_factory=factory)
    found = [made.collate_batch(PAIRS[:1], 4, index)["image"]["patches"] for index in range(2)]
    assert [patches.shape[2:] for patches in found] == [(4, 4, 3), (2, 4, 3)]


def test_a_data_set_gives_each_sample_once_an_epoch():
    made = wrapper()
    epochs = [texts(made) for _ in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [[*range(8)]] * 2
    assert epochs[0] != epochs[1]
    assert texts(wrapper(epoch=SharedEpoch(1))) == epochs[1] == texts(wrapper(epoch=0))
    assert (len(made), made.num_samples) == (4, 8)
    ranks = [wrapper(distributed=True, rank=rank, world_size=2) for rank in range(2)]
    assert sorted(text for rank in ranks for text in texts(rank)) == [*range(8)]
    assert texts(wrapper(shuffle=False)) == [*range(8)]
    assert texts(wrapper(train_num_tokens=40, shuffle=False)) == [*range(8), 0, 1]
    with pytest.raises(ConfigError, match="1 sample at the least"):
        NaFlexMapDatasetWrapper([], 4, **SMALL, transform_factory=factory)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_loader_processes_that_stay_are_told_the_epoch():
    shared = SharedEpoch()
    options = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": "fork"}
    loader = DataLoader(wrapper(epoch=shared), batch_size=None, **options)
    for epoch in range(2):
        shared.set_value(epoch)
        expected = texts(wrapper(epoch=SharedEpoch(epoch)))
        assert sorted(found := texts(loader)) == [*range(8)]
        assert found == expected
