"""Towers of which only the last layers are trained, against open_clip's locks."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from diptych.config import ClipConfig, ModelConfig, TowerOptions
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.families.clip import ResNetConfig
from diptych.families.clip.layouts import open_clip
from diptych.families.eva import EvaConfig
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.models import build_tower
from diptych.nn.norm import batch_norms
from diptych.training import fit
from diptych.training.assemble import assemble
from tests.models.peers import TEXT, VIT, open_clip_model
from tests.training.runs import MODEL, small_run

PEER = ClipConfig(image=replace(VIT, layers=3), text=replace(TEXT, layers=4), embed_dim=24)
RESNET = ResNetConfig(image_size=64, layers=(1, 1, 1, 1), width=8, heads=4)
EVA = EvaConfig(image_size=16, patch_size=8, width=32, layers=3, heads=2, mlp_width=40)
CONVNET = UniRepLKNetConfig(
    image_size=32,
    depths=(1, 1, 4, 1),
    widths=(8, 8, 16, 16),
    kernel_sizes=((3,), (7,), (13, 3, 3, 13), (3,)),
    layer_scale=0.5,
)


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def assembled(tmp_path, config, **towers):
    run = small_run(tmp_path / "run", model=ModelConfig(custom=config, **towers))
    return assemble(run, Peers())[0].objective.model


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 5])
def test_the_same_is_trained_as_by_open_clips_locks(tmp_path, groups):
    """A ViT of three blocks has five groups, a text tower of four has six."""
    theirs = open_clip_model(PEER)
    theirs.lock_image_tower(unlocked_groups=groups)
    theirs.lock_text_tower(unlocked_layers=groups)
    marks = {
        name: torch.full_like(parameter, float(parameter.requires_grad))
        for name, parameter in theirs.named_parameters()
    }
    marked = open_clip.table(theirs.state_dict()).to_ours(marks)
    options = TowerOptions(unlocked_layers=groups)
    ours = assembled(tmp_path, PEER, image=options, text=options)
    assert {name for name, mark in marked.items() if mark.all()} == trained(ours)
    assert all(mark.all() or not mark.any() for mark in marked.values())


@pytest.mark.parametrize(
    ("config", "count", "last"),
    [
        (RESNET, 6, {"pool.projection.weight", "pool.projection.bias"}),
        (EVA, 5, {"projection.weight"}),
        (CONVNET, 7, {"projection.weight"}),
    ],
    ids=["resnet", "eva", "unireplknet"],
)
def test_every_tower_has_groups_from_its_input_to_its_projection(config, count, last):
    """A stem, four blocks (of EVA's three) and the projection; of the ConvNet the published
    fine-tuning's layers (stem, two stages, the step down with three blocks, one more block, the
    fourth stage), and the projection."""
    tower = build_tower(config, 24, "meta")
    groups = tower.layer_groups()
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(name for name, _ in tower.named_parameters())
    assert len(names) == len(set(names))
    assert set(groups[-1]) >= last
    assert all(name.startswith(("projection", "pool.projection")) for name in groups[-1])
    assert len(groups) == count


def test_batch_statistics_of_locked_layers_stay(tmp_path):
    options = TowerOptions(unlocked_layers=2)
    run = small_run(
        tmp_path / "run",
        model=ModelConfig(custom=replace(MODEL, image=RESNET), image=options),
        steps=2,
    )
    model = assemble(run, Peers())[0].objective.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = load_file(fit(run, progress=False) / "model.safetensors")
    locked = set(before) - {
        f"image.{name}" for group in model.image.layer_groups()[-2:] for name in group
    }
    moved = {name for name in before if not before[name].equal(after[name])}
    assert {name for name in moved & locked if name.startswith("image.")} == {
        f"image.stages.3.0.{norm}.{kind}"
        for norm in ("norm_1", "norm_2", "norm_3", "downsample.norm")
        for kind in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert not any(norm.training for norm in batch_norms(model.image.stages[0]))


def test_a_tower_has_only_so_many_groups(tmp_path):
    with pytest.raises(ConfigError, match="unlocked_layers 5: .* has 4 groups"):
        assembled(tmp_path, MODEL, image=TowerOptions(unlocked_layers=5))


def test_what_has_no_effect_on_a_frozen_tower_is_refused():
    with pytest.raises(ConfigError, match="have no effect on a tower that isn't trained"):
        TowerOptions(freeze=True, patch_dropout=0.5)
    TowerOptions(freeze=True, unlocked_layers=2, patch_dropout=0.5)
