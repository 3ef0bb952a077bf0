"""Training that starts at another resolution than its weights had."""

import json
from dataclasses import replace

import pytest
import torch
from open_clip.model import resize_pos_embed
from safetensors.torch import load_file

import diptych
from diptych import pretrained
from diptych.checkpoints import load_model
from diptych.config import ClipConfig, ModelConfig, TowerOptions
from diptych.distributed import Peers
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts import open_clip
from diptych.families.eva import EvaConfig
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.models import build
from diptych.training import fit, load_run
from diptych.training.assemble import assemble
from diptych.weights.native import save_model
from tests.models.peers import TEXT, VIT, open_clip_model
from tests.training.runs import MODEL, small_run

EVA = EvaConfig(
    image_size=16, patch_size=8, width=32, layers=2, heads=2, mlp_width=40, rotary_grid=2
)
CONVNET = UniRepLKNetConfig(
    image_size=16,
    depths=(1, 1, 1, 1),
    widths=(8, 8, 16, 16),
    kernel_sizes=((3,), (7,), (13,), (3,)),
    layer_scale=0.5,
)


def started(tmp_path, config, model=None):
    """The model of a run of 32 pixels that starts from weights of `config`."""
    donor = save_model(tmp_path / "donor", model or build(config))
    run = small_run(
        tmp_path / "run", model=ModelConfig(init=str(donor), image=TowerOptions(size=32))
    )
    return assemble(run, Peers())[0].objective.model, run


def test_positions_are_resized_as_open_clip_does(tmp_path):
    config = ClipConfig(image=VIT, text=TEXT, embed_dim=24)
    size = 2 * VIT.image_size
    theirs = open_clip_model(config)
    larger = open_clip_model(replace(config, image=replace(VIT, image_size=size)))
    state = dict(theirs.state_dict())
    donor = build(config)
    donor.load_state_dict(open_clip.table(state).to_ours(state))
    run = small_run(
        tmp_path / "run",
        model=ModelConfig(
            init=str(save_model(tmp_path / "donor", donor)), image=TowerOptions(size=size)
        ),
    )
    model = assemble(run, Peers())[0].objective.model
    resize_pos_embed(state, larger)
    expected = state["visual.positional_embedding"]
    torch.testing.assert_close(model.image.positions.data, expected)
    assert model.config.image.image_size == size


@pytest.mark.parametrize(
    "config",
    [MODEL, replace(MODEL, image=EVA), replace(MODEL, image=CONVNET)],
    ids=["vit", "eva", "unireplknet"],
)
def test_every_tower_goes_on_at_another_size_and_says_so(tmp_path, config):
    model, run = started(tmp_path, config)
    assert model.config == replace(config, image=replace(config.image, image_size=32))
    run = replace(run, steps=1)
    last = fit(run, progress=False)
    assert json.loads((last / "model.json").read_text())["config"]["image"]["image_size"] == 32
    assert diptych.load(str(last)).preprocess.size == 32
    assert load_run(tmp_path / "run").model.image.size == 32
    resumed = fit(replace(run, steps=2), resume=True, progress=False)
    assert load_model(resumed).config.image.image_size == 32


def test_a_new_model_has_the_size_that_was_asked_for(tmp_path):
    run = small_run(tmp_path / "run", model=ModelConfig(name="tiny", image=TowerOptions(size=64)))
    model = assemble(run, Peers())[0].objective.model
    assert model.image.positions.shape == (16, 192)
    assert model.config.image == replace(pretrained.get("tiny").image, image_size=64)


def test_a_name_beside_weights_is_the_configuration_that_they_must_fit(tmp_path):
    """The tower of 32 pixels has another stem than the one of 48: refused; a configuration of
    another size alone is what the weights are resized to."""
    donor = save_model(tmp_path / "donor", build(pretrained.get("tiny")))
    run = small_run(tmp_path / "run", model=ModelConfig(name="tiny-32", init=str(donor)))
    with pytest.raises(CheckpointError, match="the model can't start from .*donor"):
        fit(run, progress=False)
    tiny = pretrained.get("tiny")
    larger = replace(tiny, image=replace(tiny.image, image_size=96))
    run = replace(run, model=ModelConfig(custom=larger, init=str(donor)))
    state, _, notes = assemble(run, Peers())
    assert state.model.config == larger
    assert any("positions is interpolated to [36, 192]" in note for note in notes)


def test_a_frozen_tower_without_weights_is_said(tmp_path):
    model = ModelConfig(custom=MODEL, image=TowerOptions(freeze=True))
    _, _, notes = assemble(small_run(tmp_path / "run", model=model), Peers())
    assert any("the image tower is frozen as it was drawn" in note for note in notes)
    donor = save_model(tmp_path / "donor", build(MODEL))
    model = replace(model, custom=None, init=str(donor))
    assert assemble(small_run(tmp_path / "run", model=model), Peers())[2] == []


def test_settings_that_weights_do_not_show_are_said(tmp_path):
    donor = save_model(tmp_path / "donor", build(MODEL))
    quick = replace(MODEL, image=replace(MODEL.image, activation="quick_gelu"))
    run = small_run(tmp_path / "run", model=ModelConfig(custom=quick, init=str(donor)))
    _, _, notes = assemble(run, Peers())
    assert any("image tower its activation is gelu, and quick_gelu here" in note for note in notes)


def test_a_size_that_does_not_fit_is_one_sentence(tmp_path):
    model = ModelConfig(custom=MODEL, image=TowerOptions(size=20))
    with pytest.raises(ConfigError, match="20"):
        fit(small_run(tmp_path / "run", model=model), progress=False)
    with pytest.raises(ConfigError, match="a text tower has no pictures"):
        ModelConfig(text=TowerOptions(size=64))


def test_weights_of_each_tower_are_resized_to_the_size_too(tmp_path):
    donor = save_model(tmp_path / "donor", build(MODEL))
    run = small_run(
        tmp_path / "run",
        model=ModelConfig(custom=MODEL, image=TowerOptions(init=str(donor), size=32)),
    )
    state, _, notes = assemble(run, Peers())
    assert state.model.image.positions.shape == (17, 32)
    assert any("positions is interpolated" in note for note in notes)
    patch = load_file(donor / "model.safetensors")["image.patch.weight"]
    assert torch.equal(state.model.image.patch.weight.data, patch)
