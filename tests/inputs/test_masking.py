"""Masked language modelling: which tokens are masked, against the published rules."""

import numpy as np
import pytest
import torch

from diptych.config import WordsConfig
from diptych.errors import ConfigError
from diptych.inputs import ClipTokenizer, DeclipTokenizer
from diptych.inputs.masking import IGNORE_INDEX, MaskTokens
from tests import goldens
from tests.objectives.recorded import mask_words

GOLDENS = goldens.files("declip/misc*.json")
golden = pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)


@golden
def test_masked_words_as_recorded(path):
    recorded = goldens.read(path)["mask_tokens"]
    torch.manual_seed(0)
    found = mask_words(recorded["input"])
    assert found.ids == recorded["output"]
    assert found.labels == recorded["labels"]


def test_shares_of_masked_words():
    tokenizer = DeclipTokenizer()
    mask = MaskTokens(WordsConfig(), tokenizer)
    ids = [49407, *range(1000, 1075), 49408]
    found = [mask(ids, np.random.default_rng(seed)) for seed in range(200)]
    labels = np.array([each.labels for each in found])
    shown = np.array([each.ids for each in found])
    chosen = labels != IGNORE_INDEX
    assert not chosen[:, [0, -1]].any()
    assert chosen[:, 1:-1].mean() == pytest.approx(0.15, abs=0.01)
    assert (shown[chosen] == tokenizer.mask_id).mean() == pytest.approx(0.8, abs=0.02)
    assert (shown[chosen] == labels[chosen]).mean() == pytest.approx(0.1, abs=0.02)
    assert (labels[chosen] == np.broadcast_to(ids, labels.shape)[chosen]).all()
    assert (shown == ids)[~chosen].all()


def test_a_vocabulary_without_a_mask_token_is_refused():
    with pytest.raises(ConfigError, match="declip"):
        MaskTokens(WordsConfig(), ClipTokenizer())
