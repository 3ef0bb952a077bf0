"""Texts beyond the context."""

import warnings

import pytest

from diptych.errors import TruncationWarning
from diptych.inputs import ClipTokenizer, DeclipTokenizer
from diptych.inputs.truncation import find_truncated, warn_if_truncated

WORDS = "a cat " * 50


@pytest.mark.parametrize("kind", [ClipTokenizer, DeclipTokenizer])
def test_length_is_that_of_the_uncut_ids(kind):
    whole = kind(context_length=1000)
    texts = [
        "",
        "a cat",
        WORDS,
        "naïve &amp; “quoted”  text",
        "supercalifragilistic" * 20,
        "日本語" * 40,
    ]
    for text in texts:
        assert kind(context_length=9).length(text) == len(whole.encode(text))


def test_a_text_that_just_fits_is_not_cut():
    tokenizer = ClipTokenizer(context_length=10)
    fits, over = "cat " * 8, "cat " * 9  # with a start and an end
    assert find_truncated(tokenizer, [fits]) is None
    found = find_truncated(tokenizer, ["a dog", over, fits, WORDS])
    assert (found.count, found.of, found.first, found.context) == (2, 4, over, 10)


def test_one_word_may_be_too_long():
    found = find_truncated(ClipTokenizer(context_length=10), ["x9" * 40])
    assert found.count == 1


def test_the_sentence():
    with pytest.warns(TruncationWarning) as said:
        warn_if_truncated(find_truncated(ClipTokenizer(), [WORDS, "a cat"]))
    assert str(said[0].message) == (
        "1 of 2 texts is longer than the context of 77 tokens, and its end has no effect: shorten "
        f"them; the first is '{WORDS[:60]}…'"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_truncated(None)
