"""CLIP's tokenizer against open_clip's, which is the reference for every published CLIP weight."""

import pickle
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.config import TokenizerConfig
from diptych.errors import ConfigError, DataError
from diptych.inputs import ClipTokenizer, build_tokenizer, write_transformers_files
from diptych.inputs import clip_tokenizer as clip_tokenizer_module
from diptych.inputs import tokenizer as tokenizer_module
from diptych.inputs import vocabulary as vocabulary_module
from diptych.inputs.tokenizer import check_text
from diptych.inputs.vocabulary import read_vocabulary

HARD = [
    "",
    " \t\r\n ",
    "a",
    "A Photo of a CAT.",
    "it's John's; they'll I've we're don't you'd I'm",
    "IT'S DON'T WE'LL",
    "'s 't 're ''s '' 'x",
    "rock 'n' roll",
    "tab\tnewline\nreturn\rformfeed\x0cvertical\x0bbell\x07nul\x00del\x7fescape\x1b[31mred\x1b[0m",
    "1234567890 3.14 1,000 ½ ² Ⅷ ١٢٣",
    "&amp; &amp;amp; &lt;b&gt; &#39; &nbsp; &hellip; &#x1F600; &#128; caf&eacute &copy 2020 "
    "&notanentity; R&D &",
    "<b>bold</b> &lt; <&amp;>",
    "<start_of_text> <end_of_text> <START_OF_TEXT> x<end_of_text>y <|startoftext|> <|endoftext|> "
    "</w>",
    "naïve café über straße ΟΔΥΣΣΕΥΣ İstanbul ǅ ŉ ſ 'ſ <ſtart_of_text>",
    "“curly” ‘quotes’ it’s donʼt «guillemets» – — …",
    "schÃ¶n itâ€™s âœ” ï¬\x81",
    "ﬁ ﬂ ﬀ ｆｕｌｌ ｗｉｄｔｈ ｶﾅ ①②",
    "日本語のテキスト 中文字符 한국어 텍스트 ไทย العربية עברית हिन्दी",
    "e\u0301 a\u030a \u1112\u1161\u11ab",
    "😀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 a😀b ❤️",
    "\u200bzero\u200dwidth\ufeff bom\u00ad soft\u00a0nbsp\u3000ideographic\u2028line\u2029"
    "para\x85nel\x1cfs",
    "\ud800 lone \udfff surrogate",
    "\U00040000\U0010ffff\u0cdc\u209d\u0378",
    "supercalifragilisticexpialidocious" * 9,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 4,
    "word " * 500,
    "!" * 300,
    "?!...---###@@@$$$%%%^^^***((()))___+++===~~~```",
    "日" * 200,
    "https://example.com/a_b?c=d&e=f#g user@example.com C:\\path\\file.txt",
    "x" * 75 + " y",
    " ".join("abcdefghij" for _ in range(75)),
]


@pytest.fixture(scope="module")
def reference():
    open_clip = pytest.importorskip("open_clip")
    return open_clip.SimpleTokenizer()


@pytest.fixture(scope="module")
def tokenizer():
    return ClipTokenizer()


@pytest.mark.parametrize("text", HARD, ids=range(len(HARD)))
def test_hard_texts_equal_open_clip(text, tokenizer, reference):
    expected = reference([text])
    assert torch.equal(tokenizer(text, pad_to=77), expected)
    # Once more: the first call filled the cache that the second one reads.
    assert torch.equal(tokenizer(text, pad_to=77), expected)


@settings(max_examples=600, deadline=None, database=None, derandomize=True)
@given(
    st.one_of(
        st.text(),
        st.text(st.characters(max_codepoint=0xFF), max_size=120),
        st.text(st.sampled_from("aAsStTdDmMlLrReEvV'’ &;#<>x19\t\n\x1bÃ©â€™"), max_size=40),
        st.lists(st.sampled_from([*HARD[1:23], "&amp", "&#", "a", "'", "É", "ß"]), max_size=6).map(
            "".join
        ),
        st.text(
            st.characters(
                categories=["Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Nd", "No", "So", "Zs", "Cf", "Cn"]
            )
        ),
    )
)
def test_any_text_equals_open_clip(tokenizer, reference, text):
    assert torch.equal(tokenizer(text, pad_to=77), reference([text])), ascii(text)


def test_many_captions_equal_open_clip(tokenizer, reference):
    rng = random.Random(0)
    words = [
        symbol.removesuffix("</w>")
        for symbol in read_vocabulary().symbols[600:]
        if symbol.isascii()
    ]
    signs = ["", "", "", "", ",", ".", "!", "'s", " -", "2", "?"]
    captions = [
        " ".join(rng.choice(words).title() + rng.choice(signs) for _ in range(rng.randint(1, 40)))
        for _ in range(800)
    ]
    assert torch.equal(tokenizer(captions, pad_to=77), reference(captions))


@pytest.mark.parametrize("context", [3, 8, 77, 200])
def test_truncation_keeps_the_end_token(context, reference):
    ids = ClipTokenizer(context)("one two three four five six " * 50)
    assert ids.shape == (1, context)
    assert ids[0, -1] == 49407
    assert torch.equal(
        ids, reference(["one two three four five six " * 50], context_length=context)
    )


def test_a_batch_is_as_long_as_its_longest_caption(tokenizer, reference):
    texts = ["a cat", "", "a photo of two dogs"]
    ids = tokenizer(texts)
    assert ids.dtype == torch.int64
    assert torch.equal(ids, reference(texts)[:, :7])
    assert tokenizer([]).shape == (0, 0)
    assert tokenizer(("one",)).shape == (1, 3)


def test_padding_below_the_longest_caption_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="pad_to is 4, but a caption has 7 ids"):
        tokenizer("a photo of two dogs", pad_to=4)


@pytest.mark.parametrize("value", [None, 3, b"bytes", float("nan")])
def test_what_is_not_text_is_named(value):
    with pytest.raises(DataError, match=type(value).__name__):
        check_text(value)


def test_a_context_without_room_is_refused():
    with pytest.raises(ConfigError, match="context_length 2"):
        build_tokenizer(TokenizerConfig(), context_length=2)


def test_decoding_undoes_encoding(tokenizer):
    ids = tokenizer(["A dog's 2 bones, “naïve” 日本!", "x"])
    assert tokenizer.decode(ids[0]) == 'a dog \'s 2 bones , " naïve " 日本 !'
    assert tokenizer.decode(ids[1]) == "x"


def test_the_cache_is_bounded_and_forgetting_changes_nothing(monkeypatch, tokenizer):
    monkeypatch.setattr(clip_tokenizer_module, "CACHED_WORDS", 50)
    small = ClipTokenizer()
    texts = [f"word{n} and {n * 7}" for n in range(400)]
    assert torch.equal(small(texts), tokenizer(texts))
    assert len(small._words) <= 50
    small.encode("z" * 5000)
    assert max(map(len, small._words)) <= 48


def test_it_travels_to_other_processes_and_threads(tokenizer):
    texts = [f"a photo of {n} things" for n in range(200)]
    copy = pickle.loads(pickle.dumps(ClipTokenizer(40)))
    assert copy.context_length == 40
    assert len(pickle.dumps(tokenizer)) < 200
    fresh = ClipTokenizer()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: fresh(texts), range(16)))
    assert all(torch.equal(result, tokenizer(texts)) for result in results)


def test_a_hundred_thousand_letters_without_a_space_are_no_trap(tokenizer, reference):
    assert tokenizer.encode("ab" * 50_000)[:77] == [
        *reference(["ab" * 400])[0, :76].tolist(),
        49407,
    ]


def test_a_missing_or_changed_vocabulary_is_said(monkeypatch):
    monkeypatch.setattr(vocabulary_module, "PACKAGE", "no-such-package")
    with pytest.raises(ConfigError, match="no-such-package, which is not here: run `pip install"):
        vocabulary_module._read_merges()
    monkeypatch.undo()
    monkeypatch.setattr(vocabulary_module, "FILE", "clip/clip.py")
    with pytest.raises(ConfigError, match=r"clip\.py is not CLIP's vocabulary"):
        vocabulary_module._read_merges()


def test_transformers_reads_the_files_we_write(tmp_path, tokenizer):
    transformers = pytest.importorskip("transformers")
    write_transformers_files(tmp_path)
    theirs = transformers.CLIPTokenizer.from_pretrained(str(tmp_path))
    for text in [
        "a photo of a cat.",
        "It's 3 o'clock, isn't it?",
        "ALL CAPS & signs!",
        "naïve café",
        "",
    ]:
        assert theirs(text)["input_ids"] == tokenizer.encode(text)
    assert theirs.model_max_length == 77
    assert theirs.pad_token_id == 49407


LONG = {
    "words": "a red car and " * 5000,
    "a word": "abcdefgh" * 20_000,
    "space": " " * 200_000 + "a cat",
    "signs": "!?&." * 20_000,
    "emoji": "😂🇺🇸" * 10_000,
    "entities": "&amp;lt;b&amp;gt; " * 5000,
    "digits": "1234567890" * 10_000,
    "lines": "one\ntwo\t" * 10_000,
}


@pytest.mark.parametrize("name", LONG)
def test_what_is_left_out_of_a_long_text_changes_no_id(name, monkeypatch):
    tokenizer = ClipTokenizer()
    ids = tokenizer.encode(LONG[name])
    truncated = tokenizer.truncates(LONG[name], ids)
    monkeypatch.setattr(tokenizer_module, "LETTERS", 1 << 30)
    assert tokenizer.encode(LONG[name]) == ids
    assert tokenizer.truncates(LONG[name], ids) == truncated == (name != "space")


def test_a_megabyte_in_one_word_takes_no_time():
    start = time.process_time()
    assert len(ClipTokenizer().encode("x" * 10_000_000)) == 77
    assert time.process_time() - start < 2
