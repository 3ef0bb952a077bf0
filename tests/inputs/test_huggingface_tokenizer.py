"""Any Hugging Face tokenizer behind our interface: small ones made here, nothing fetched."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from diptych.config import TokenizerConfig
from diptych.errors import ConfigError
from diptych.inputs import build_tokenizer

transformers = pytest.importorskip("transformers")
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "cat",
    "dog",
    "and",
    "&",
    "it",
    "'",
    "s",
    "##s",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return build_tokenizer(TokenizerConfig(kind="huggingface", name=str(folder)), context_length=6)


def test_ids_padding_and_sizes(tokenizer):
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.context_length) == (len(WORDS), 0, 6)
    assert tokenizer(["a cat", "dogs"]).tolist() == [[2, 5, 6, 3], [2, 7, 13, 3]]
    assert tokenizer(["a", "a cat and"]).tolist() == [[2, 5, 3, 0, 0], [2, 5, 6, 8, 3]]
    assert tokenizer("a cat", pad_to=6).tolist() == [[2, 5, 6, 3, 0, 0]]


def test_truncation_keeps_the_last_special_token(tokenizer):
    assert tokenizer.encode("a cat and a dog and a cat") == [2, 5, 6, 8, 5, 3]


def test_text_is_cleaned_before(tokenizer):
    assert tokenizer.encode("a &amp;amp;  dog") == tokenizer.encode("a & dog")
    assert tokenizer.encode("it’s") == tokenizer.encode("it's")


def test_decoding_leaves_special_tokens_out(tokenizer):
    assert tokenizer.decode(tokenizer("a cat and", pad_to=6)[0]) == "a cat and"


def test_saved_files_are_found_before_the_name(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    config = TokenizerConfig(kind="huggingface", name="nobody/nothing")
    again = build_tokenizer(config, context_length=6, folder=tmp_path)
    assert torch.equal(again(["a cat", "dogs and cat"]), tokenizer(["a cat", "dogs and cat"]))


def test_the_clip_tokenizer_needs_no_files(tmp_path):
    tokenizer = build_tokenizer(TokenizerConfig())
    tokenizer.save(tmp_path)
    assert not list(tmp_path.iterdir())
    assert build_tokenizer(TokenizerConfig(), folder=tmp_path).encode("a cat") == tokenizer.encode(
        "a cat"
    )


def test_it_travels_to_other_processes_and_threads(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    texts = ["a cat", "dogs and a cat and a dog"] * 20
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: copy(texts), range(16)))
    assert all(torch.equal(result, tokenizer(texts)) for result in results)


def test_a_tokenizer_without_padding_pads_with_its_end(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "<|endoftext|>": 2}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer"})
    )
    tokenizer = build_tokenizer(TokenizerConfig(kind="huggingface", name=str(tmp_path)))
    assert tokenizer(["ab", "a"]).tolist() == [[0, 1], [0, 2]]


@pytest.mark.parametrize("name", ["", "/no/such/folder"])
def test_no_such_tokenizer(name):
    with pytest.raises(ConfigError, match=r"tokenizer"):
        build_tokenizer(TokenizerConfig(kind="huggingface", name=name))
