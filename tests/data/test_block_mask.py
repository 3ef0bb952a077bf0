"""Masks of masked image modelling: what is published of their numbers, and any grid."""

import numpy as np
import pytest

from diptych.batch import HiddenView, Views
from diptych.config import DataConfig, PreprocessConfig, TokenizerConfig
from diptych.data import Loader, open_source
from diptych.data.block_mask import AlternatingMask, BlockMask
from diptych.inputs import Preprocess, build_tokenizer


def drawn(view, count=1500):
    return np.stack([BlockMask(view)(np.random.default_rng(seed)) for seed in range(count)])


def test_as_published_the_number_varies_as_it_did():
    """Of 5000 masks of the authors' code: 104.4 on average, 94 to 105, 105 in 65 %."""
    counts = drawn(HiddenView(16, 105, exact=False)).sum(axis=1)
    assert abs(counts.mean() - 104.4) < 0.1
    assert 93 <= counts.min() < 99
    assert counts.max() == 105
    assert abs((counts == 105).mean() - 0.65) < 0.05


def test_exact_only_adds_patches_to_what_was_found():
    blocks, exact = (drawn(HiddenView(16, 105, exact=each), 200) for each in (False, True))
    assert (exact.sum(axis=1) == 105).all()
    assert (exact >= blocks).all()


def test_blocks_hang_together():
    """A hidden patch has more hidden neighbours than if the same number lay anywhere: 41 %."""
    grids = drawn(HiddenView(16, 105), 200).reshape(-1, 16, 16)
    both = grids[:, 1:] & grids[:, :-1]
    assert both.sum() / grids[:, :-1].sum() > 0.7


@pytest.mark.parametrize("side", [1, 2, 3, 7, 14, 27])
def test_any_grid(side):
    count = max(1, round(0.41 * side**2))
    assert (drawn(HiddenView(side, count), 50).sum(axis=1) == count).all()
    loose = drawn(HiddenView(side, count, exact=False), 50).sum(axis=1)
    assert loose.min() >= 1
    assert loose.max() <= count
    assert loose.mean() > 0.49 * count


def loaded(workers, prefetch):
    """Of each sample's place its masks in two epochs."""
    found = dict[int, list[tuple[int, ...]]]()
    config = DataConfig(path="synthetic:20", workers=workers, prefetch=prefetch)
    loader = Loader(
        open_source(config, alone=True),
        config,
        preprocess=Preprocess(PreprocessConfig(), 32),
        tokenizer=build_tokenizer(TokenizerConfig()),
        views=Views(text=(), hidden=HiddenView(8, 26, exact=False)),
        batch_size=10,
        steps=4,
        seed=3,
    )
    for batch in loader:
        assert not batch.texts
        assert batch.hidden.places.sum(dim=1).tolist() == list(batch.hidden.counts)
        for place, row in zip(batch.index.tolist(), batch.hidden.places, strict=True):
            found.setdefault(place, []).append(tuple(row.nonzero()[:, 0].tolist()))
    return found


def test_a_loader_draws_them_alike_in_any_worker_and_chunk():
    alone = loaded(0, 500.0)
    assert len(alone) == 20
    assert all(first != second for first, second in alone.values())
    assert loaded(1, 500.0) == alone
    assert loaded(2, 0.02) == alone


def test_alternating():
    found = AlternatingMask(HiddenView(3, 4))(np.random.default_rng(0))
    assert found.tolist() == [True, False] * 4 + [True]
