"""DeCLIP's tokenizer gives the recorded ids."""

import pickle

import pytest

from diptych.config import TokenizerConfig
from diptych.inputs import ClipTokenizer, DeclipTokenizer, build_tokenizer
from tests import goldens

GOLDENS = goldens.files("declip/misc*.json")


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_ids_as_recorded(path):
    recorded = goldens.read(path)["tokenizer"]
    tokenizer = build_tokenizer(TokenizerConfig(kind="declip"))
    for text, ids in recorded["cases"]:
        assert tokenizer.encode(text) == [49407, *ids, 49408], text
    assert tokenizer.vocab_size == recorded["vocab_size"]
    assert tokenizer.mask_id == recorded["mask_id"]


def test_all_but_the_special_ids_are_clips():
    text = "Two dogs & a cat, running in the snow!"
    assert DeclipTokenizer().encode(text)[1:-1] == ClipTokenizer().encode(text)[1:-1]
    assert DeclipTokenizer().decode(DeclipTokenizer().encode(text)) == ClipTokenizer().decode(
        ClipTokenizer().encode(text)
    )


def test_cut_to_the_context_and_sent_to_another_process():
    tokenizer = pickle.loads(pickle.dumps(DeclipTokenizer(8)))
    ids = tokenizer.encode("one two three four five six seven eight nine")
    assert len(ids) == 8
    assert (ids[0], ids[-1]) == (49407, 49408)
