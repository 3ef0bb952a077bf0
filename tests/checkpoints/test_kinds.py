"""A folder of transformers' that describes a model of a kind that no layout reads."""

import json

import pytest
import torch
from safetensors.torch import save_file

from diptych.checkpoints import convert, load_image_tower, load_model
from diptych.errors import CheckpointError
from diptych.weights import save_model

SAID = r"{}: config.json describes a '{}' model, which Diptych doesn't read; .* reads altclip, chi"


@pytest.fixture
def folder(tmp_path, vit, random_model):
    """Of a model whose weights have the names of transformers' CLIP."""
    save_model(tmp_path / "native", random_model(vit))
    return convert(tmp_path / "native", "transformers", tmp_path / "out")


def call_it(folder, kind):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": kind}))


def test_weights_of_known_names(folder, vit):
    call_it(folder, "blip")
    with pytest.raises(CheckpointError, match=SAID.format(folder, "blip")):
        load_model(folder)
    assert load_model(folder, config=vit).config == vit
    assert load_image_tower(folder, config=vit.image).config == vit.image


def test_weights_of_unknown_names(tmp_path):
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is in no layout that Diptych knows"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "align"}))
    with pytest.raises(CheckpointError, match=SAID.format(tmp_path, "align")):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", ["clip", "siglip_vision_model", "altclip_text_model", None])
def test_a_kind_that_is_read_is_none_of_these(tmp_path, kind):
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(CheckpointError, match="is in no layout that Diptych knows"):
        load_model(tmp_path)
