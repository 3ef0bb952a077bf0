"""Tokenizers beside open_clip's and OpenAI's: the same ids, words and attributes."""

import importlib.util
import pickle
import re
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import torch

from diptych import compat
from diptych.checkpoints.describe import read_config
from diptych.compat import clip
from diptych.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    TruncationWarning,
    UnknownNameError,
)
from diptych.inputs.vocabulary import PACKAGE
from tests.compat.peers import KINDS

open_clip = pytest.importorskip("open_clip")
TEXTS = [
    "A cat's whiskers",
    "caf\u00e9 &amp; 12 \u72d7",
    "",
    "<start_of_text> odd <end_of_text>",
    "x" * 30,
]


def test_clips_tokenizer_is_open_clips():
    ours, theirs = compat.SimpleTokenizer(), open_clip.SimpleTokenizer()
    assert torch.equal(ours(TEXTS), theirs(TEXTS))
    for text in (*TEXTS, "word " * 100):
        ids = theirs.encode(text)
        assert ours.encode(text) == ids
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.decode(torch.tensor(ids, dtype=torch.long)) == theirs.decode(ids)
    padded = theirs("a cat")[0].tolist()
    assert ours.decode(padded, stop_at_eos=False) == theirs.decode(padded)
    names = ("vocab_size", "all_special_ids", "sot_token_id", "eot_token_id", "context_length")
    names += ("encoder", "decoder", "bpe_ranks", "byte_encoder", "byte_decoder")
    for name in names:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.bpe("diptych") == theirs.bpe("diptych")
    assert ours.bpe("<start_of_text>") == "<start_of_text>"


OPENAI = Path(metadata.distribution(PACKAGE).locate_file("clip"))
"""Their package can't be imported where setuptools is a newer one."""


def _with_words_of_ones_own(package):
    class Spelt(package.SimpleTokenizer):
        def bpe(self, token):
            return token if token in self.cache else " ".join([*token[:-1], f"{token[-1]}</w>"])

    class Reversed(package.SimpleTokenizer):
        def encode(self, text):
            words = self.pat.findall(self.clean_fn(text))[::-1]
            return [number for word in words for number in super(Reversed, self).encode(word)]

    plain = package.SimpleTokenizer()
    plain.encode = lambda text: [len(text)] * 9
    return [Spelt(), Reversed(), plain]


def test_a_subclass_reads_words_its_own_way():
    open_clip = pytest.importorskip("open_clip")
    texts = ["A cat's  whiskers &amp; more", "of words " * 50, "<end_of_text> ends", ""]
    pairs = map(_with_words_of_ones_own, (open_clip, compat))
    for theirs, mine in zip(*pairs, strict=True):
        for length in (None, 8):
            assert torch.equal(theirs(texts, length), mine(texts, length))


def _openais(module: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"openais_{module}", OPENAI / f"{module}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_texts_are_cleaned_as_asked(clean):
    made = [each.SimpleTokenizer(clean=clean) for each in (compat, open_clip)]
    for text in (*TEXTS, "A_Cat, &amp; the <START_OF_TEXT>  Dog's"):
        ours, theirs = (tokenizer.encode(text) for tokenizer in made)
        assert ours == theirs
        assert made[0].clean_fn(text) == made[1].clean_fn(text)
    assert pickle.loads(pickle.dumps(made[0])).encode("A Cat") == made[1].encode("A Cat")


def test_length_and_words_of_ones_own():
    ours = compat.get_tokenizer("ViT-B-32", additional_special_tokens=["<MASK>"])
    assert isinstance(ours, compat.SimpleTokenizer)
    assert ours.encode("a <mask> cat") == [320, 49408, 2368]  # the vocabulary has 49,408
    assert ours.decode([320, 49408]) == "a <MASK>"
    assert (ours.vocab_size, ours.all_special_ids) == (49409, [49406, 49407, 49408])
    again = pickle.loads(pickle.dumps(ours))
    assert again.encode("a <MASK> cat") == [320, 49408, 2368]
    theirs = open_clip.SimpleTokenizer(context_length=9)
    for made in (compat.SimpleTokenizer(context_length=9), compat.SimpleTokenizer()):
        made.context_length = 9
        with pytest.warns(TruncationWarning):
            assert torch.equal(made("word " * 20), theirs("word " * 20))
        with pytest.warns(TruncationWarning):
            assert torch.equal(made("word " * 20, 5), theirs("word " * 20, 5))
    with pytest.raises(ConfigError, match="context_length=2"):
        ours("a cat", context_length=2)


def test_openais_tokenizer_has_its_own_words():
    from diptych.compat.clip.simple_tokenizer import SimpleTokenizer

    ours, theirs = SimpleTokenizer(), _openais("simple_tokenizer").SimpleTokenizer()
    assert ours.encoder == theirs.encoder
    for text in (*TEXTS, "<|startoftext|>a<|endoftext|>"):
        assert ours.encode(text) == theirs.encode(text)
    assert clip.simple_tokenizer.SimpleTokenizer is SimpleTokenizer
    ids = clip.tokenize("<|startoftext|>a<|endoftext|>", context_length=5)
    assert ids.tolist() == [[49406, 49406, 320, 49407, 49407]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a tokenizer of transformers'."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tokenizer")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "##s", "A"]
    (folder / "vocab.txt").write_text("\n".join(words))
    file = str(folder / "vocab.txt")
    transformers.BertTokenizer(vocab=file, vocab_file=file).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strip_sep_token": True},
        {"clean": "canonicalize"},
        {"context_length": 4},
        {"use_fast": True, "padding_side": "right"},
    ],
)
@pytest.mark.filterwarnings("ignore::diptych.errors.TruncationWarning")
def test_transformers_tokenizer_is_open_clips(saved, options):
    ours = compat.HFTokenizer(saved, **options)
    theirs = open_clip.tokenizer.HFTokenizer(str(saved), **options)
    texts = ["a cat", "a cat, dogs &amp; dogs", "A cat"]
    assert torch.equal(ours(texts), theirs(texts))
    assert torch.equal(ours("a cat", 6), theirs("a cat", 6))
    assert ours.decode(ours("a cat")[0], skip_special_tokens=True) == "a cat"
    assert ours.tokenizer.pad_token_id == 0
    with pytest.raises(DataError, match="^a caption must be text, not int: 1"):
        ours([1])
    with pytest.raises(ConfigError, match="no language 'de'"):
        ours.set_language("de")


def test_openais_state_dict_and_files(tmp_path):
    assert list(clip._MODELS) == clip.available_models()
    code = (OPENAI / "clip.py").read_text()
    assert list(clip._MODELS.values()) == re.findall(r'": "(https://.+?)"', code)
    (tmp_path / "ViT-B-32.pt").write_bytes(b"other")
    digest = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"  # of b"other"
    assert clip._download(f"https://openaipublic/{digest}/ViT-B-32.pt", tmp_path) == str(
        tmp_path / "ViT-B-32.pt"
    )
    torch.manual_seed(0)
    model = {**KINDS["quick"], "vision_cfg": {**KINDS["quick"]["vision_cfg"], "head_width": 64}}
    model["text_cfg"] = {**model["text_cfg"], "heads": 1}  # OpenAI's code derives heads: width / 64
    peer = open_clip.CLIP(**model).eval()
    ours = clip.build_model(peer.state_dict())
    pixels, ids = torch.randn(2, 3, 32, 32), clip.tokenize(["a cat", "two dogs"])
    with torch.no_grad():
        image, text, scale = peer(pixels, ids)
        torch.testing.assert_close(ours(pixels, ids)[0], scale * image @ text.T)
    with pytest.raises(CheckpointError):
        clip.build_model({"nothing": torch.zeros(3)})


def test_siglips_tokenizers(saved):
    kind = open_clip.tokenizer.SigLipTokenizer
    ours, theirs = compat.SigLipTokenizer(saved), kind.__new__(kind)
    theirs.tokenizer, theirs.context_length = ours.tokenizer, 64
    texts = ["A cat, dogs!", "a_cat &amp; dogs"]
    assert torch.equal(ours(texts), theirs(texts))
    with pytest.raises(NotImplementedError, match="trained to read padding"):
        ours(texts, output_mask=True)
    assert compat.SigLipTokenizer.VOCAB_FILES.keys() == theirs.VOCAB_FILES.keys()
    # Each is the published models' own, which are fetched by the same names.
    for name, model in (
        ("c4-en", "ViT-B-16-SigLIP"),
        ("mc4", "ViT-B-16-SigLIP-i18n-256"),
        ("gemma", "ViT-B-16-SigLIP2"),
    ):
        assert compat.SigLipTokenizer.VOCAB_FILES[name] == read_config(model).tokenizer.name
    assert isinstance(ours, compat.HFTokenizer)


def test_texts_are_canonicalised_as_open_clip_does():
    for text in (*TEXTS, "A photo_of  {}, isn't it? { }"):
        for kept in (None, "{}"):
            said = {"keep_punctuation_exact_string": kept}
            wanted = open_clip.tokenizer.canonicalize_text(text, **said)
            assert compat.canonicalize_text(text, **said) == wanted


def test_the_cache_folder_reaches_the_tokenizers_library(monkeypatch, tmp_path):
    """A tokenizer of the hub's, asked for by a model's name."""
    transformers = pytest.importorskip("transformers")
    asked = {}

    def from_pretrained(name, **options):
        asked.update(options, name=name)
        raise OSError("no network")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", from_pretrained)
    with pytest.raises(ConfigError, match="no network"):
        compat.get_tokenizer("ViT-B-16-SigLIP", cache_dir=tmp_path)
    assert (asked["name"], asked["cache_dir"]) == ("timm/ViT-B-16-SigLIP", tmp_path)


def test_what_is_refused(tmp_path):
    (tmp_path / "bpe.txt.gz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"bpe\.txt\.gz isn't CLIP's vocabulary"):
        compat.SimpleTokenizer(tmp_path / "bpe.txt.gz")
    with pytest.raises(UnknownNameError, match="shuffle"):
        compat.get_tokenizer("ViT-B-32", reduction_mask="shufle")
    for made in (compat.SimpleTokenizer, compat.HFTokenizer):
        with pytest.raises(UnknownNameError, match="canonicalize"):
            made(tmp_path, clean="canonicalise")
