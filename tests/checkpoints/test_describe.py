"""What a configuration may be given as."""

import json

import pytest

from diptych import pretrained
from diptych.checkpoints import convert, load_model
from diptych.checkpoints.describe import read_config
from diptych.errors import CheckpointError, UnknownNameError
from diptych.families.clip.layouts import open_clip_config
from diptych.families.eva.layouts import eva
from diptych.weights.native import save_model
from tests.families.eva.small import MODELS

EVA = MODELS["eva02-b"]


def test_itself_and_nothing():
    assert read_config(None) is None
    assert read_config(EVA) is EVA


def test_a_name():
    assert read_config("EVA02-CLIP-B-16") == pretrained.get("eva02-clip-b-16")
    with pytest.raises(UnknownNameError, match="did you mean"):
        read_config("eva02-clip-b-61")


@pytest.mark.parametrize("wrapped", [True, False])
def test_open_clips_schema(vit, tmp_path, wrapped):
    content = open_clip_config.to_json(vit)
    (tmp_path / "cfg.json").write_text(json.dumps(content if wrapped else content["model_cfg"]))
    assert read_config(tmp_path / "cfg.json") == vit
    assert read_config(str(tmp_path / "cfg.json")) == vit


@pytest.mark.parametrize("wrapped", [True, False])
def test_eva_clips_schema(tmp_path, wrapped):
    content = eva.to_json(EVA)
    (tmp_path / "cfg.json").write_text(json.dumps({"model_cfg": content} if wrapped else content))
    assert read_config(tmp_path / "cfg.json") == EVA


@pytest.mark.parametrize("to", ["native", "transformers"])
def test_what_lies_beside_weights(vit, random_model, tmp_path, to):
    for name, config in (("vit", vit), ("eva", EVA)):
        save_model(tmp_path / f"{name}-in", random_model(config))
        convert(tmp_path / f"{name}-in", to, tmp_path / name)
        read = read_config(tmp_path / name / ("model.json" if to == "native" else "config.json"))
        assert read is not None
        assert (read.image, read.text, read.embed_dim) == (
            config.image,
            config.text,
            config.embed_dim,
        )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "can't be read"),
        ("[]", "holds a list"),
        ("{}", "has no 'embed_dim'"),
        ('{"embed_dim": 4, "vision_cfg": {"eva_model_name": "x"}}', "has no 'text_cfg'"),
        ('{"model_type": "bert"}', "describes a 'bert' model"),
        ('{"format": "diptych", "config": {"depth": 3}}', "has no field 'depth'"),
        ('{"format": "diptych"}', "no config"),
    ],
)
def test_a_file_that_describes_nothing(tmp_path, text, says):
    (tmp_path / "cfg.json").write_text(text)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_config(tmp_path / "cfg.json")
    assert str(tmp_path / "cfg.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent.json can't be read"):
        read_config(tmp_path / "absent.json")


def test_conversion_takes_one(tmp_path, random_model):
    save_model(tmp_path / "in", random_model(EVA))
    convert(tmp_path / "in", "eva", tmp_path / "weights.pt")
    (tmp_path / "cfg.json").write_text(json.dumps(eva.to_json(EVA)))
    convert(tmp_path / "weights.pt", "native", tmp_path / "out", config=tmp_path / "cfg.json")
    assert load_model(tmp_path / "out").config == EVA
