"""A description of a model in which a value is of another type: one sentence that names it in the
file's own words, and none of Python's."""

import copy
import json
import re

import pytest

from diptych.errors import CheckpointError
from diptych.families.clip.layouts import transformers
from diptych.families.clip.layouts.open_clip_config import from_json
from diptych.families.siglip.layouts import transformers as siglip

OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"width": 64, "heads": 1, "layers": 2, "vocab_size": 60},
    },
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"},
}
SECTION = {"hidden_size": 64, "num_attention_heads": 1, "hidden_act": "gelu", "vocab_size": 60}
TRANSFORMERS = {
    "model_type": "clip",
    "projection_dim": 32,
    "text_config": SECTION | {"eos_token_id": 2, "layer_norm_eps": 1e-5},
    "vision_config": SECTION | {"image_size": 32, "patch_size": 8},
}
PYTHON = re.compile(r"operand|unhash|unpack|subscript|iterable|attribute|argument|NoneType|Error")
WRONG = ("x", 1.5, None, [1, 2], {"a": 1}, True)


def changed(content, path, value):
    found = copy.deepcopy(content)
    *outer, last = path.split(".")
    place = found
    for name in outer:
        place = place[name]
    place[last] = value
    return found


def paths(content, before=""):
    for name, value in content.items():
        yield f"{before}{name}"
        if isinstance(value, dict):
            yield from paths(value, f"{before}{name}.")


def refusal(read, what):
    """The sentence; empty: it was read."""
    try:
        read(what)
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("path", [*paths(OPEN_CLIP)])
def test_of_open_clip(path):
    for value in WRONG:
        assert not PYTHON.search(refusal(from_json, changed(OPEN_CLIP, path, value)))


@pytest.mark.parametrize(("kind", "layout"), [("clip", transformers), ("siglip", siglip)])
def test_of_transformers(tmp_path, kind, layout):
    file, whole = tmp_path / "config.json", TRANSFORMERS | {"model_type": kind}
    (tmp_path / "tokenizer_config.json").write_text("{}")
    for path in paths(whole):
        for value in WRONG:
            file.write_text(json.dumps(changed(whole, path, value)))
            assert not PYTHON.search(refusal(layout.read_file, file))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (changed(OPEN_CLIP, "model_cfg", 3), "model_cfg is 3; it must be an object with names"),
        (
            changed(OPEN_CLIP, "model_cfg.vision_cfg.width", "wide"),
            "model_cfg.vision_cfg.width is 'wide'; it must be a whole number",
        ),
        (
            changed(OPEN_CLIP, "model_cfg.vision_cfg.layers", [1, 2]),
            "vision_cfg.layers has 2 values; it takes 4",
        ),
        (changed(OPEN_CLIP, "preprocess_cfg.mean", 3), "preprocess_cfg.mean is 3; it must be a l"),
    ],
)
def test_open_clips_words(content, said):
    with pytest.raises(CheckpointError, match=said):
        from_json(content)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("text_config", 3, "text_config is 3; it must be an object with names and values"),
        ("text_config.hidden_size", None, "text_config.hidden_size is None; it must be a whole"),
        ("vision_config.hidden_act", [], r"vision_config.hidden_act is \[\]; it must be a text"),
    ],
)
def test_transformers_words(tmp_path, path, value, said):
    (tmp_path / "config.json").write_text(json.dumps(changed(TRANSFORMERS, path, value)))
    with pytest.raises(CheckpointError, match=said):
        transformers.read_file(tmp_path / "config.json")
