"""The deploy form computes what the training form does, and comes from nothing else."""

from dataclasses import replace

import pytest
import torch

from diptych.errors import CheckpointError
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.families.unireplknet.deploy import deploy
from diptych.models import build_tower
from diptych.weights.state import State
from tests import goldens
from tests.families.unireplknet import golden_rules
from tests.models.peers import shake

NETS = {
    "small kernels": UniRepLKNetConfig(
        depths=(2, 1, 1, 1), widths=(8, 16, 24, 32), kernel_sizes=((3, 5), (0,), (3,), (5,))
    ),
    "large kernels": UniRepLKNetConfig(
        depths=(2, 2, 1, 1), widths=(8, 16, 24, 32), kernel_sizes=((7, 9), (11, 13), (15,), (17,))
    ),
    "no layer scale": UniRepLKNetConfig(
        depths=(1, 1, 2, 1),
        widths=(16, 16, 24, 32),
        kernel_sizes=((3,), (13,), (13, 3), (13,)),
        layer_scale=None,
    ),
}


def trained(config, embed_dim=6, seed=0):
    """A tower that has seen some batches, so that its statistics are of its own maps."""
    torch.manual_seed(seed)
    tower = build_tower(config, embed_dim)
    tower.init()
    shake(tower)
    with torch.no_grad():
        for block in tower.blocks:
            if block.scale is not None:
                block.scale.uniform_(0.2, 1)
        for _ in range(10):
            tower.train()(2 * torch.randn(4, 3, 48, 48))
    return tower.eval()


def deployed(tower, embed_dim=6, dtype=torch.float32):
    state, config = deploy(State.of(tower.state_dict()), tower.config)
    merged = build_tower(config, embed_dim)
    merged.to(dtype).load_state_dict(dict(state))
    return merged.eval()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETS)
def test_features_stay(name, seed):
    tower = trained(NETS[name], seed=seed)
    x = torch.randn(2, 3, 50, 71)
    with torch.no_grad():
        tokens, _, pooled = tower(x)
        merged_tokens, _, merged = deployed(tower)(x)
    torch.testing.assert_close(merged, pooled, rtol=0, atol=1e-5)
    torch.testing.assert_close(merged_tokens, tokens, rtol=0, atol=1e-5 * tokens.abs().max().item())


@pytest.mark.parametrize("name", NETS)
def test_in_float64_nothing_is_lost(name):
    tower = trained(NETS[name]).double()
    x = torch.randn(2, 3, 50, 71, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(
            deployed(tower, dtype=torch.double)(x).pooled, tower(x).pooled, rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("path", golden_rules.FILES, ids=lambda path: path.stem)
def test_merged_tensors_of_the_original(path):
    golden = goldens.read(path)
    state, _ = deploy(
        golden_rules.to_ours(golden_rules.weights(golden)), golden_rules.config(golden)
    )
    merged = golden_rules.to_published(state)
    assert {name: list(tensor.shape) for name, tensor in merged.items()} == golden["deploy_keys"]
    for name, recorded in golden["deploy_tensors"].items():
        near = 2e-7 * max(1, recorded["abs_max"])
        first = torch.tensor(recorded["first16"])
        torch.testing.assert_close(merged[name].flatten()[:16], first, rtol=0, atol=near, msg=name)
        assert float(merged[name].mean()) == pytest.approx(recorded["mean"], abs=near)


def test_shapes_are_known_before_anything_is_computed():
    state, _ = deploy(State.of(trained(NETS["large kernels"]).state_dict()), NETS["large kernels"])
    assert {name: like.shape for name, like in state.shapes.items()} == {
        n: t.shape for n, t in dict(state).items()
    }
    assert all(like.dtype == state[name].dtype for name, like in state.shapes.items())


def test_the_source_is_left_alone_and_a_second_time_changes_nothing():
    tower = trained(NETS["small kernels"])
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    state, config = deploy(State.of(tower.state_dict()), tower.config)
    assert config == replace(tower.config, deploy=True, layer_scale=None)
    again, same = deploy(state, config)
    assert again is state
    assert same is config
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower.state_dict().items())


def test_an_image_tower_alone():
    tower = trained(NETS["no layer scale"], embed_dim=None)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            deployed(tower, None)(x).pooled, tower(x).pooled, rtol=0, atol=1e-5
        )


def test_weights_in_half_precision_are_merged_to_float32():
    """So that the merged net is no worse than the unmerged one that is loaded in float32."""
    tower = trained(NETS["large kernels"])
    half = {n: t.half() if t.is_floating_point() else t for n, t in tower.state_dict().items()}
    tower.load_state_dict(half)
    state, config = deploy(State.of(half), tower.config)
    assert state["stages.0.blocks.0.down.weight"].dtype == torch.float32
    merged = build_tower(config, 6)
    merged.load_state_dict(dict(state))
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(merged.eval()(x).pooled, tower(x).pooled, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("stages.0.blocks.0.scale", "stages.0.blocks.0.scale is missing"),
        ("stages.1.blocks.0.down_norm.running_var", "running_var is missing"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(lost, message):
    tower = trained(NETS["small kernels"])
    state = tower.state_dict()
    del state[lost]
    with pytest.raises(CheckpointError, match=message):
        deploy(State.of(state), tower.config)


def test_merged_weights_are_not_taken_for_a_training_form():
    tower = trained(NETS["small kernels"])
    state, _ = deploy(State.of(tower.state_dict()), tower.config)
    with pytest.raises(CheckpointError, match="missing"):
        deploy(state, tower.config)
