"""CLIP and SigLIP as objectives over a model."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from diptych.config import ClipObjectiveConfig, SiglipObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.models import build
from diptych.objectives import ContrastiveObjective, build_objective
from diptych.objectives.contrastive import InfoNce, Sigmoid
from diptych.objectives.info_nce import info_nce
from diptych.objectives.sigmoid_loss import sigmoid_loss
from tests.objectives.small import batch_of, small_config


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_clip_is_info_nce_of_the_models_vectors():
    model = build(small_config())
    objective = build_objective(ClipObjectiveConfig(label_smoothing=0.1, tile=4), model)
    assert isinstance(objective, ContrastiveObjective)
    assert isinstance(objective.contrastive, InfoNce)
    batch = batch_of(10)
    losses = objective(batch, Peers())
    scale = model.logit_scale.exp()
    expected = info_nce(*model(batch.images[0], batch.texts[0]), scale, 0.1)
    torch.testing.assert_close(losses.total, expected)
    assert losses.metrics["loss"] == losses.total
    assert losses.metrics["scale"] == scale
    assert not any(term.requires_grad for term in losses.metrics.values())
    losses.total.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_siglip_is_the_sigmoid_loss_of_the_models_vectors():
    model = build(replace(small_config(), logit_bias=-10.0))
    objective = build_objective(SiglipObjectiveConfig(tile=4), model)
    assert isinstance(objective, ContrastiveObjective)
    assert isinstance(objective.contrastive, Sigmoid)
    batch = batch_of(10)
    losses = objective(batch, Peers())
    expected = sigmoid_loss(
        *model(batch.images[0], batch.texts[0]), model.logit_scale.exp(), model.logit_bias
    )
    torch.testing.assert_close(losses.total, expected)
    assert losses.metrics["bias"] == -10
    with torch.no_grad():
        model.logit_bias.add_(1)  # the optimiser's step
    assert losses.metrics["bias"] == -10, "it is recorded as the loss used it"
    losses.total.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert [
        name for name in objective.state_dict() if "bias" in name.split(".")[-1] and "logit" in name
    ] == ["model.logit_bias"]


def test_siglip_needs_a_bias():
    with pytest.raises(ConfigError, match="logit_bias"):
        build_objective(SiglipObjectiveConfig(), build(small_config()))


def test_clip_leaves_a_bias_as_it_is():
    model = build(replace(small_config(), logit_bias=-10.0))
    objective = build_objective(ClipObjectiveConfig(), model)
    objective(batch_of(3), Peers()).total.backward()
    trained = [p for p in objective.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)
    assert len(trained) == len(list(model.parameters())) - 1


def test_the_scale_is_clamped_after_a_step():
    model = build(small_config())
    objective = build_objective(ClipObjectiveConfig(max_logit_scale=50.0), model)
    for value, kept in ((7.0, math.log(50)), (-0.5, 0.0), (2.0, 2.0)):
        torch.nn.init.constant_(model.logit_scale, value)
        objective.after_step({})
        assert model.logit_scale.item() == pytest.approx(kept)
        assert model.logit_scale.requires_grad


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_frozen_tower_gets_no_gradient(tower):
    model = build(small_config())
    frozen = model.get_submodule(tower).requires_grad_(False)
    build_objective(ClipObjectiveConfig(), model)(batch_of(6), Peers()).total.backward()
    assert all(p.grad is None for p in frozen.parameters())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_towers_compute_in_bfloat16_and_the_loss_does_not():
    objective = build_objective(ClipObjectiveConfig(), build(small_config()))
    batch = batch_of(6)
    with torch.autocast("cpu", torch.bfloat16):
        features = objective.features(batch)
        losses = objective.loss(features, Peers())
    assert features["image"].dtype == features["text"].dtype == losses.total.dtype == torch.float32
    torch.testing.assert_close(features["image"], F.normalize(features["image"]), rtol=1e-6, atol=0)
    assert features["image"].ne(features["image"].bfloat16()).any()
    expected = info_nce(features["image"], features["text"], objective.model.logit_scale.exp())
    torch.testing.assert_close(losses.total, expected)
