"""open_clip's smaller helpers, beside the peer's."""

import random
import sys
from types import SimpleNamespace

import open_clip
import pytest
import torch
from open_clip.utils import freeze_batch_norm_2d as their_freeze
from torch import nn

from diptych import compat
from diptych.compat import factory, hf_configs, tokenizer, transform, utils
from diptych.compat.hf_model import HFTextEncoder, register_pooler
from diptych.compat.model import convert_to_custom_text_state_dict
from diptych.compat.pretrained import download_pretrained_from_hf, has_hf_hub
from diptych.errors import ConfigError, UnknownNameError

TEXTS = ["a photo of a very small cat on top of two big dogs", "short"]


@pytest.mark.parametrize("mask", ["simple", "random", "shuffle"])
def test_long_texts_lose_the_words_that_open_clips_lose(mask, monkeypatch):
    # Not seeded: what checks types in tests draws from `random`, too.
    monkeypatch.setattr(random, "randint", lambda first, last: last - 2)
    rows = []
    for made in (compat.SimpleTokenizer, open_clip.SimpleTokenizer):
        tokenize = made(context_length=6, reduction_mask=mask)
        torch.manual_seed(3)
        rows.append(tokenize(TEXTS))
    assert torch.equal(*rows)


def test_nouns_come_first_where_words_are_tagged(monkeypatch):
    """By a stand-in for NLTK, which isn't among the tests' packages."""
    monkeypatch.setitem(sys.modules, "nltk", None)
    made = compat.SimpleTokenizer(context_length=5, reduction_mask="syntax")
    with pytest.raises(ConfigError, match=r"diptych\[nltk\].*averaged_perceptron_tagger_eng"):
        made("a cat")
    split = SimpleNamespace(word_tokenize=str.split)
    tags = {"the": "DT", "red": "JJ", "cat": "NN", "sees": "VBZ", "two": "CD", "dogs": "NNS"}
    nltk = SimpleNamespace(
        word_tokenize=str.split,
        pos_tag=lambda words: [(word, tags[word]) for word in words],
        tokenize=split,
        download=lambda name: True,  # as open_clip asks for its data
    )
    monkeypatch.setitem(sys.modules, "nltk", nltk)
    theirs = open_clip.SimpleTokenizer(context_length=5, reduction_mask="syntax")
    texts = [" ".join(tags), "cat"]
    ids, valid = made(texts, output_mask=True)
    assert made.batch_decode(ids, skip_special_tokens=True) == ["red cat dogs ", "cat "]
    assert valid.sum(1).tolist() == [5, 3]
    assert torch.equal(ids, theirs(texts))
    body = made(texts[0], add_special_tokens=False)[0]
    assert made.decode(body) == "the red cat sees dogs "
    with pytest.raises(UnknownNameError, match="shuffle"):
        compat.SimpleTokenizer(reduction_mask="shufle")


def test_the_table_of_transformers_names_is_open_clips():
    assert hf_configs.arch_dict == open_clip.hf_configs.arch_dict


def test_texts_come_back_without_their_ends():
    made = compat.SimpleTokenizer()
    rows = made(["hello, world!", "a test"])
    assert made.batch_decode(rows, skip_special_tokens=True) == ["hello , world ! ", "a test "]
    assert made.batch_decode(rows)[1].startswith("<start_of_text>a test <end_of_text>")
    assert tokenizer.batch_decode(rows, skip_special_tokens=True) == ["hello , world ! ", "a test "]


@pytest.mark.parametrize("name", ["hf-hub:a/b", "local-dir:./x", "ViT-B-32"])
def test_names_are_taken_apart(name):
    assert factory.parse_model_name(name) == open_clip.factory.parse_model_name(name)
    with pytest.raises(ValueError, match="local-dir:NAME"):
        factory.parse_model_name("local-dir:")


def test_a_text_tower_moves_down():
    state = open_clip.CLIP(8, {"layers": 1, "width": 64}, {"layers": 1, "width": 8, "heads": 1})
    theirs = open_clip.model.convert_to_custom_text_state_dict(state.state_dict())
    mine = convert_to_custom_text_state_dict(state.state_dict())
    assert list(mine) == list(theirs)
    assert convert_to_custom_text_state_dict(mine) == mine


def test_batch_norms_are_frozen_as_open_clips():
    made = []
    for freeze in (utils.freeze_batch_norm_2d, their_freeze):
        torch.manual_seed(0)
        norms = nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)
        module = nn.Sequential(nn.Conv2d(3, 4, 1), *norms)
        module(torch.rand(2, 3, 4, 4))
        made.append(freeze(module)(torch.rand(2, 3, 4, 4)))
    torch.testing.assert_close(*made)
    kept = utils.freeze_batch_norm_2d(nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1)), {"1"})
    assert [type(norm).__name__ for norm in kept] == ["BatchNorm2d", "FrozenBatchNorm2d"]
    assert (kept[1].num_features, kept[1].affine) == (1, True)
    double = utils.freeze_batch_norm_2d(nn.BatchNorm2d(2).double())
    assert {tensor.dtype for tensor in double.state_dict().values()} == {torch.float64}
    assert utils.to_4tuple(2) == (2, 2, 2, 2)


def test_colours_are_lost_as_often_as_asked():
    picture = torch.rand(3, 4, 4)
    grey = transform.gray_scale(p=1.0)(picture)
    assert torch.equal(grey[0], grey[1])
    assert transform.gray_scale(p=0.0)(picture) is picture
    assert transform.color_jitter(brightness=0.5, p=0.0)(picture) is picture
    assert not torch.equal(transform.color_jitter(0.5, 0.5, p=1.0)(picture), picture)
    assert transform.center_crop_or_pad(picture, 6).shape == (3, 6, 6)


def test_a_pooler_of_ones_own_pools():
    transformers = pytest.importorskip("transformers")

    @register_pooler
    class LastPooler(nn.Module):
        def forward(self, x, attention_mask):
            return x.last_hidden_state[:, -1]

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=50, intermediate_size=64, **sizes)
    made = HFTextEncoder("bert", 16, config, "last_pooler", "linear").eval()
    assert isinstance(made.pooler, LastPooler)
    ids = torch.tensor([[1, 5, 9]])
    wanted = made.proj(made.transformer(input_ids=ids).last_hidden_state[:, -1])
    torch.testing.assert_close(made(ids), wanted)


def test_a_file_of_the_hub_without_a_network(monkeypatch, tmp_path):
    assert has_hf_hub()
    asked = []

    def fetch(place, *, file, cache_dir):
        asked.append((place, file))
        if file.endswith("safetensors"):
            from diptych.errors import DownloadError

            raise DownloadError("no such file")
        return tmp_path / file

    monkeypatch.setattr("diptych.compat.pretrained.fetch", fetch)
    found = download_pretrained_from_hf("org/name", revision="v1")
    assert found == str(tmp_path / "open_clip_pytorch_model.bin")
    assert asked[0] == ("hf-hub:org/name@v1", "open_clip_model.safetensors")
    with pytest.raises(FileNotFoundError, match="no such file"):
        download_pretrained_from_hf("org/name", "model.safetensors")
