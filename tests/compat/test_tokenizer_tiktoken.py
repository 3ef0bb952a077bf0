"""tiktoken's encodings, here a stand-in of the few things that are asked of them: the library
fetches its vocabularies, and isn't among the tests' packages."""

import json
import sys
from types import SimpleNamespace

import pytest

from diptych import compat
from diptych.compat.tokenizer import TikTokenTokenizer
from diptych.config import TokenizerConfig
from diptych.errors import AssumptionWarning, ConfigError, TruncationWarning
from diptych.families.clip.layouts.open_clip_config import to_json
from diptych.inputs import build_tokenizer


class StandIn:
    """`tiktoken.Encoding`, of a vocabulary whose symbols are looked for greedily."""

    def __init__(self, name, *, pat_str, mergeable_ranks, special_tokens, explicit_n_vocab=None):
        self.name, self._pat_str = name, pat_str
        self._mergeable_ranks, self._special_tokens = mergeable_ranks, special_tokens
        self.n_vocab = max([*mergeable_ranks.values(), *special_tokens.values()]) + 1
        assert explicit_n_vocab in (None, self.n_vocab)
        self.special_tokens_set = set(special_tokens)
        self._symbols = {rank: symbol for symbol, rank in mergeable_ranks.items()}
        self._symbols |= {number: word.encode() for word, number in special_tokens.items()}

    def encode_ordinary(self, text):
        rest, found = text.encode(), []
        while rest:
            symbol = max(filter(rest.startswith, self._mergeable_ranks), key=len)
            found.append(self._mergeable_ranks[symbol])
            rest = rest[len(symbol) :]
        return found

    def encode_single_token(self, word):
        return self._special_tokens[word]

    def decode(self, numbers):
        return b"".join(map(self.decode_single_token_bytes, numbers)).decode()

    def decode_single_token_bytes(self, number):
        return self._symbols[number]


GAPPED = {
    "pat_str": r"\S+|\s+",
    "mergeable_ranks": {b"a": 0, b"b": 1, b"ab": 2, b" ": 3},
    "special_tokens": {"<|endoftext|>": 10},
}


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """Instead of tiktoken."""

    def get_encoding(name):
        if name != "gapped":
            raise ValueError(f"Unknown encoding {name}.")
        return StandIn(name, **GAPPED)

    found = SimpleNamespace(Encoding=StandIn, get_encoding=get_encoding)
    monkeypatch.setitem(sys.modules, "tiktoken", found)


def test_three_ids_stand_behind_the_vocabulary():
    made = TikTokenTokenizer("gapped", context_length=7)
    assert (made.vocab_size, made.all_special_ids) == (14, [11, 12, 13, 10])
    assert (made.eos_token_id, made.pad_token_id, made.bos_token_id) == (11, 12, 13)
    assert made.encode("ab a") == [2, 3, 0]
    assert made.encode("ab a", add_special_tokens=True) == [13, 2, 3, 0, 11]
    ids, valid = made("ab a", output_mask=True)
    assert ids.tolist() == [[13, 2, 3, 0, 11, 12, 12]]
    assert (valid == (ids != 12)).all()
    assert [row.tolist() for row in made(["a", "ab a"], pad=False)] == [
        [13, 0, 11],
        [13, 2, 3, 0, 11],
    ]
    with pytest.warns(TruncationWarning):
        assert made("a" * 9).tolist() == [[13, 0, 0, 0, 0, 0, 11]]
    bare = TikTokenTokenizer("gapped", 4, add_bos=False, add_eos=False)
    assert bare("a").tolist() == [[0, 12, 12, 12]]


def test_ids_become_texts_without_those_that_nobody_has():
    made = TikTokenTokenizer("gapped", context_length=7)
    ids = made("ab a")
    assert made.batch_decode(ids) == ["<|bos|>ab a<|eos|>"]
    assert made.decode(ids[0], skip_special_tokens=True) == "ab a"
    assert made.decode(ids[0], stop_at_eos=False) == "<|bos|>ab a<|eos|><|pad|><|pad|>"
    assert made.decode([13, 2, 7, 10, 0, 99, 11]) == "<|bos|>ab<|endoftext|>a<|eos|>"
    assert made.decode([13, 2, 7, 10, 0, 99, 11], skip_special_tokens=True) == "aba"


def test_two_files_hold_an_encoding(tmp_path):
    made = TikTokenTokenizer("gapped", context_length=7)
    files = made.save_pretrained(tmp_path)
    paths = [tmp_path / files[f"tiktoken_{kind}_path"] for kind in ("bpe", "config")]
    again = TikTokenTokenizer("gapped", 7, bpe_path=paths[0], encoding_config_path=paths[1])
    assert again("ab a").tolist() == made("ab a").tolist()
    said = json.loads(paths[1].read_text())
    assert "explicit_n_vocab" not in said
    paths[1].write_text(json.dumps(said | {"explicit_n_vocab": 11}))
    with pytest.warns(AssumptionWarning, match="explicit_n_vocab=11"):
        TikTokenTokenizer("gapped", 7, bpe_path=paths[0], encoding_config_path=paths[1])
    paths[0].write_text("not base64\n")
    with pytest.raises(ConfigError, match="line 1 isn't a symbol in base64"):
        TikTokenTokenizer("gapped", 7, bpe_path=paths[0], encoding_config_path=paths[1])
    paths[1].write_text("{")
    with pytest.raises(ConfigError, match="aren't the files of a tiktoken encoding"):
        TikTokenTokenizer("gapped", 7, bpe_path=paths[0], encoding_config_path=paths[1])
    with pytest.raises(ConfigError, match="needs encoding_config_path"):
        TikTokenTokenizer("gapped", 7, bpe_path=paths[0])


def test_what_is_not_there_is_said(monkeypatch):
    with pytest.raises(ConfigError, match="no encoding 'other' here: Unknown encoding"):
        TikTokenTokenizer("other")
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(ConfigError, match="pip install tiktoken"):
        TikTokenTokenizer("gapped")


def test_a_model_of_tiktokens_texts_has_its_tokenizer(tmp_path):
    said = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 16,
            "patch_size": 8,
            "width": 32,
            "layers": 1,
            "head_width": 16,
        },
        "text_cfg": {
            "text_arch": "modern",
            "context_length": 7,
            "vocab_size": 14,
            "width": 16,
            "heads": 2,
            "layers": 1,
            "pad_id": 12,
            "bos_id": 13,
            "eos_id": 11,
            "tokenizer_type": "tiktoken",
            "tiktoken_name": "gapped",
        },
    }
    clean = {"tokenizer_kwargs": {"clean": "lower"}}
    for name, more in (("plain", {}), ("clean", clean)):
        text = said["text_cfg"] | more
        (tmp_path / f"{name}.json").write_text(json.dumps(said | {"text_cfg": text}))
    made = compat.get_tokenizer(tmp_path / "plain.json")
    assert isinstance(made, TikTokenTokenizer)
    assert made("ab  a").tolist() == [[13, 2, 3, 3, 0, 11, 12]]
    lower = compat.get_tokenizer(tmp_path / "clean.json")
    assert lower("AB  a").tolist() == [[13, 2, 3, 0, 11, 12, 12]]
    model = compat.create_model(tmp_path / "plain.json", load_weights=False)
    assert model.text.vocab_size == made.vocab_size
    written = to_json(model.config)["model_cfg"]["text_cfg"]
    assert {name: written[name] for name in said["text_cfg"]} == said["text_cfg"]


def test_a_tokenizers_files_beside_a_model_are_read(tmp_path, monkeypatch):
    config = TokenizerConfig(kind="tiktoken", name="gapped", clean="spaces")
    made = build_tokenizer(config, 7)
    made.save(tmp_path)
    monkeypatch.setattr(sys.modules["tiktoken"], "get_encoding", None)  # nothing is fetched
    again = build_tokenizer(config, 7, tmp_path)
    assert again.encode("ab   a") == made.encode("ab a")
    assert again.encode("ab a") == [13, 2, 3, 0, 11]
    assert again.decode([13, 2, 3, 0, 11]) == "ab a"
