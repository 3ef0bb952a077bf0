"""Weights in several files with an index: whole, or one sentence on what doesn't fit."""

import json

import pytest
import torch
from safetensors.torch import save_file

from diptych.checkpoints import load_model
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.open_clip import export_table


@pytest.fixture
def sharded(tmp_path, random_model, vit):
    """A model in three shards, of which one is torch's, and its index."""
    tensors = export_table(vit).to_foreign(random_model(vit).state_dict())
    names, files = sorted(tensors), ["model-1.safetensors", "model-2.bin", "model-3.safetensors"]
    index = {}
    for i, file in enumerate(files):
        part = {name: tensors[name] for name in names[i::3]}
        save_file(part, tmp_path / file) if file.endswith("safetensors") else torch.save(
            part, tmp_path / file
        )
        index |= dict.fromkeys(part, file)
    write(tmp_path, index)
    return tmp_path, index


def write(folder, index):
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )


def sentence(folder, config):
    with pytest.raises(CheckpointError) as caught:
        load_model(folder / "model.safetensors.index.json", config=config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_shards_are_one_model(sharded, random_model, vit):
    folder, _ = sharded
    expected = random_model(vit).state_dict()
    for path in (folder / "model.safetensors.index.json", folder):
        state = load_model(path, config=vit).model.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_a_missing_shard_is_named(sharded, vit):
    folder, _ = sharded
    (folder / "model-2.bin").unlink()
    assert "model-2.bin is missing, which model.safetensors.index.json lists" in sentence(
        folder, vit
    )


def test_a_shard_with_wrong_tensors_is_named(sharded, vit):
    folder, index = sharded
    write(folder, {name: file for name, file in index.items() if name != "logit_scale"})
    assert (
        f"{index['logit_scale']} has a logit_scale, other than model.safetensors.index.json"
        in sentence(folder, vit)
    )
    write(folder, index | {"absent": "model-3.safetensors"})
    assert "model-3.safetensors has no absent, other than model.safetensors.index.json" in sentence(
        folder, vit
    )


@pytest.mark.parametrize(
    "listed", [{}, [], None, {"a": 1}, {"a": "model.safetensors.index.json"}, {"a": "../.."}]
)
def test_an_index_that_lists_nonsense(sharded, vit, listed):
    folder, _ = sharded
    write(folder, listed)
    sentence(folder, vit)
