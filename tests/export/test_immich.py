"""Immich's folder: what its service reads beside the programs."""

import json
from dataclasses import replace

import pytest

from diptych.config import PreprocessConfig, TokenizerConfig
from diptych.config.alone import alone
from diptych.errors import CheckpointError
from diptych.export import immich
from diptych.inputs import tokenizer_of
from tests.export.test_export import CONFIG

tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("transformers")


def test_texts_and_pictures_are_described_as_immich_reads_them(tmp_path):
    for name in ("visual", "textual"):
        (tmp_path / name).mkdir()
    ours = tokenizer_of(CONFIG)
    immich.write_beside(tmp_path, CONFIG, ours)
    text = json.loads((tmp_path / "config.json").read_text())["text_cfg"]
    assert text == {"context_length": 77, "vocab_size": 49408}
    seen = json.loads((tmp_path / "visual" / "preprocess_cfg.json").read_text())
    assert (seen["size"], seen["resize_mode"], seen["interpolation"]) == (
        [32, 32],
        "shortest",
        "bicubic",
    )
    # As its `OpenClipTextualEncoder` makes ids.
    told = json.loads((tmp_path / "textual" / "tokenizer_config.json").read_text())
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "textual" / "tokenizer.json"))
    pad = theirs.token_to_id(told["pad_token"])
    theirs.enable_padding(length=77, pad_token=told["pad_token"], pad_id=pad)
    theirs.enable_truncation(max_length=77)
    for sentence in ("A photo of a Cat's whiskers", "two dogs, running!", "word " * 100):
        ids, wanted = theirs.encode(sentence).ids, ours.encode(sentence)
        assert ids[: len(wanted)] == wanted
        assert set(ids[len(wanted) :]) <= {pad}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (replace(CONFIG, preprocess=PreprocessConfig(resize="longest")), "resize is 'longest'"),
        (replace(CONFIG, preprocess=PreprocessConfig(crop_share=0.875)), "crop_share is 0.875"),
        (replace(CONFIG, tokenizer=TokenizerConfig(kind="declip")), "its tokenizer is DeCLIP's"),
        (alone(CONFIG.image, 16), "needs both towers, and this model has no text tower"),
    ],
)
def test_what_immich_would_see_otherwise_is_refused(config, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        immich.check_immich(config)
