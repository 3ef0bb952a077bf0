"""What open_clip's main branch asks of tokenizers beside 3.3: with and without start and end, which
ids are a text's, ids back to texts."""

import pickle

import pytest
import torch

from diptych import compat
from diptych.compat.tokenizer import Tokenizer, clean_up_tokenization, decode, tokenize
from diptych.errors import ConfigError, TruncationWarning
from tests.compat.test_tokenizer import saved  # noqa: F401  (a fixture)


def test_start_and_end_come_when_they_are_asked_for():
    made = compat.SimpleTokenizer(context_length=6)
    assert isinstance(made, Tokenizer)
    body = made.encode("a cat")
    assert made.encode("a cat", add_special_tokens=True) == [49406, *body, 49407]
    assert (made.bos_token_id, made.eos_token_id, made.pad_token_id) == (49406, 49407, None)
    assert made("a cat", add_special_tokens=False).tolist() == [[*body, 0, 0, 0, 0]]
    assert tokenize("a cat", 3, add_special_tokens=False).tolist() == [[*body, 0]]
    with pytest.warns(TruncationWarning, match="1 of 2 texts is longer than the context of 6"):
        ids = made(["word " * 7, "a cat"], add_special_tokens=False)
    assert ids[0].tolist() == made.encode("word " * 6)


def test_a_mask_says_which_ids_are_the_texts():
    made = compat.SimpleTokenizer(context_length=8)
    ids, valid = made(["x!=y", ""], output_mask=True)
    assert valid.tolist() == [[True] * 6 + [False] * 2, [True] * 2 + [False] * 6]
    assert ids[0].tolist().index(0) < 4  # "!" is 0, and a word
    for kind in ("simple", "random", "shuffle"):
        reduced = compat.SimpleTokenizer(context_length=4, reduction_mask=kind)
        ids, valid = reduced(["a b c d e", "a"], add_special_tokens=False, output_mask=True)
        assert valid.tolist() == [[True] * 4, [True, False, False, False]]
        assert not {49406, 49407} & set(ids.flatten().tolist())
    with pytest.raises(ConfigError, match="variable-length texts, pad=False: it has no id"):
        made("a cat", pad=False)


def test_ids_become_texts_up_to_the_end_or_beyond_it():
    made = compat.SimpleTokenizer(context_length=8)
    ids = made(["it's a cat, isn't it?"[:10], "hello"])
    assert made.decode(ids[1]) == "<start_of_text>hello <end_of_text>"
    assert made.decode(ids[1], skip_special_tokens=True) == "hello "
    assert made.decode(ids[1], stop_at_eos=False).endswith("<end_of_text>!!!!!")
    assert made.decode(ids[1], True, False) == "hello !!!!!"
    assert made.batch_decode(ids, skip_special_tokens=True) == ["it 's a cat ", "hello "]
    cleaned = made.batch_decode(ids, True, clean_up_tokenization_spaces=True)
    assert cleaned == ["it's a cat ", "hello "]
    assert decode(ids[1], stop_at_eos=False).count("!") == 5
    assert clean_up_tokenization("I 'm sorry , ca n't do that .") == "I'm sorry, can't do that."
    assert clean_up_tokenization("the dog ' s , we 've , you 're") == "the dog's, we've, you're"


def test_transformers_tokenizers_do_the_same(saved):  # noqa: F811
    made = compat.HFTokenizer(saved, context_length=6)
    assert (made.bos_token_id, made.eos_token_id, made.pad_token_id) == (2, 3, 0)
    assert made.encode("a cat") == [5, 6]
    assert made.encode("a cat", add_special_tokens=True) == [2, 5, 6, 3]
    ids, valid = made(["a cat", "a"], output_mask=True)
    assert valid.sum(1).tolist() == [4, 3]
    assert [row.tolist() for row in made(["a cat", "a"], pad=False)] == [[2, 5, 6, 3], [2, 5, 3]]
    with pytest.warns(TruncationWarning):
        assert made("a cat dog", 2, add_special_tokens=False).tolist() == [[5, 6]]
    assert made.decode(ids[0]) == "[CLS] a cat [SEP]"
    assert made.decode(ids[0], stop_at_eos=False) == "[CLS] a cat [SEP] [PAD] [PAD]"
    assert made.batch_decode(ids, skip_special_tokens=True) == ["a cat", "a"]
    with pytest.raises(ConfigError, match="needs no mask"):
        made("a cat", pad=False, output_mask=True)
    blank = compat.HFTokenizer(saved, context_length=6, strip_sep_token=True)
    assert blank.encode("a cat", add_special_tokens=True) == [2, 5, 6, 0]
    assert torch.equal(pickle.loads(pickle.dumps(made))(["a cat"]), made(["a cat"]))
