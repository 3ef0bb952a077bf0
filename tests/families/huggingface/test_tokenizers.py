"""The tokenizers of RoBERTa, XLM-RoBERTa, NLLB and T5, with small vocabularies, as open_clip has
them."""

import pytest

from diptych.config import TokenizerConfig
from diptych.inputs import build_tokenizer

open_clip = pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")

PIECES = [
    "▁a",
    "▁cat",
    "▁dog",
    "s",
    "▁and",
    "▁",
    "&",
    ",",
    "▁der",
    "▁Hund",
    "c",
    "a",
    "t",
    "d",
    "o",
]
TEXTS = ["a cat", "dogs &amp;  a cat", "", "a cat and a dog, a cat and a dog", "der Hund", "ö"]


def pieces(*special):
    return [(piece, 0.0) for piece in special] + [
        (piece, -1.0 - i) for i, piece in enumerate(PIECES)
    ]


def roberta():
    letters = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
    for letter in ("a", "c", "t", "Ġ", "ca", "cat", "Ġcat", "d", "o", "g", "s"):
        letters[letter] = len(letters)
    merges = [("c", "a"), ("ca", "t"), ("Ġ", "cat")]
    return transformers.RobertaTokenizer(vocab=letters, merges=merges)


def xlm_roberta():
    return transformers.XLMRobertaTokenizer(vocab=pieces("<s>", "<pad>", "</s>", "<unk>"))


def nllb():
    vocab = {piece: i for i, (piece, _) in enumerate(pieces("<s>", "<pad>", "</s>", "<unk>"))}
    return transformers.NllbTokenizer(vocab=vocab, merges=[])


def t5():
    return transformers.T5Tokenizer(vocab=pieces("<pad>", "</s>", "<unk>"), extra_ids=0)


@pytest.mark.parametrize("make", [roberta, xlm_roberta, nllb, t5])
def test_ids_are_open_clips(make, tmp_path):
    make().save_pretrained(tmp_path)
    theirs = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=9)
    ours = build_tokenizer(TokenizerConfig(kind="huggingface", name=str(tmp_path)), 9)
    wanted = theirs(TEXTS)
    assert ours(TEXTS, pad_to=9).tolist() == wanted.tolist()
    assert ours.pad_id == (0 if make is t5 else 1)
    assert len({tuple(row) for row in wanted.tolist()}) > 4  # they aren't all unknown
