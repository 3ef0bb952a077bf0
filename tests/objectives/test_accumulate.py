"""Micro-batches give the gradient of the whole batch."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from diptych.config import ClipObjectiveConfig, SiglipObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.families.clip import VitConfig
from diptych.models import build
from diptych.nn.norm import batch_norms
from diptych.objectives import accumulate, build_objective
from tests.objectives.small import batch_of, small_config

OBJECTIVES = [ClipObjectiveConfig(label_smoothing=0.05, tile=5), SiglipObjectiveConfig(tile=5)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def objective_over(config, patch_dropout=0.0):
    model = build(replace(small_config(), logit_bias=-3.0), dtype=torch.float64)
    model.image.set_patch_dropout(patch_dropout)
    return build_objective(config, model)


def gradients(objective):
    grads = {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}
    objective.zero_grad()
    return grads


def cut(batch, *ends):
    return [batch.rows(start, stop) for start, stop in zip((0, *ends), ends, strict=False)]


@pytest.mark.parametrize("config", OBJECTIVES, ids=["clip", "siglip"])
@pytest.mark.parametrize("ends", [(6, 12), (3, 6, 9, 12), (5, 10, 12)])
def test_micro_batches_give_the_gradient_of_the_batch(config, ends):
    objective, batch = objective_over(config), batch_of(12, torch.float64)
    whole = accumulate(objective, objective, [batch], Peers())
    expected = gradients(objective)
    parts = accumulate(objective, objective, cut(batch, *ends), Peers())
    torch.testing.assert_close(parts.total, whole.total)
    assert not parts.total.requires_grad
    torch.testing.assert_close(parts.metrics, whole.metrics)
    torch.testing.assert_close(gradients(objective), expected)
    assert all(gradient.any() for gradient in expected.values())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_both_passes_drop_the_same_patches(checkpointing):
    objective, batch = (
        objective_over(ClipObjectiveConfig(), patch_dropout=0.5),
        batch_of(12, torch.float64),
    )
    objective.model.image.set_checkpointing(checkpointing)
    micro_batches = cut(batch, 4, 8, 12)
    start = torch.get_rng_state()
    accumulate(objective, objective, micro_batches, Peers())
    replayed, end = gradients(objective), torch.get_rng_state()

    torch.set_rng_state(start)
    features = [objective.features(part) for part in micro_batches]
    assert torch.get_rng_state().equal(end), "the next step draws what follows the first pass"
    objective.loss(
        {name: torch.cat([f[name] for f in features]) for name in features[0]}, Peers()
    ).total.backward()
    expected = gradients(objective)
    torch.testing.assert_close(replayed, expected)

    accumulate(objective, objective, micro_batches, Peers())
    other_masks = gradients(objective)
    assert (other_masks["model.logit_scale"] - expected["model.logit_scale"]).abs() > 1e-6


def test_gradients_add_to_those_that_are_there():
    objective, batch = objective_over(ClipObjectiveConfig()), batch_of(8, torch.float64)
    accumulate(objective, objective, [batch], Peers())
    accumulate(objective, objective, cut(batch, 4, 8), Peers())
    twice = gradients(objective)
    accumulate(objective, objective, [batch], Peers())
    torch.testing.assert_close(
        twice, {name: 2 * gradient for name, gradient in gradients(objective).items()}
    )


@pytest.mark.parametrize("ends", [(8,), (4, 8)])
def test_the_loss_scale_multiplies_gradients_and_not_the_record(ends):
    objective, batch = objective_over(ClipObjectiveConfig()), batch_of(8, torch.float64)
    plain = accumulate(objective, objective, [batch], Peers())
    expected = {name: 1024 * gradient for name, gradient in gradients(objective).items()}
    scaled = accumulate(
        objective, objective, cut(batch, *ends), Peers(), scale_loss=lambda loss: 1024 * loss
    )
    torch.testing.assert_close(gradients(objective), expected)
    torch.testing.assert_close(scaled.total, plain.total)


def test_under_autocast_too():
    objective = build_objective(ClipObjectiveConfig(), build(small_config()))
    batch = batch_of(8)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16)
    whole = accumulate(objective, objective, [batch], Peers(), autocast)
    expected = gradients(objective)
    parts = accumulate(objective, objective, cut(batch, 4, 8), Peers(), autocast)
    torch.testing.assert_close(parts.total, whole.total, rtol=1e-3, atol=1e-4)
    for name, gradient in gradients(objective).items():
        assert (gradient - expected[name]).norm() < 0.05 * expected[name].norm() + 1e-4, name


def test_a_frozen_tower_stays_without_gradient():
    objective, batch = objective_over(ClipObjectiveConfig()), batch_of(8, torch.float64)
    objective.model.image.requires_grad_(False)
    accumulate(objective, objective, [batch], Peers())
    expected = gradients(objective)
    accumulate(objective, objective, cut(batch, 4, 8), Peers())
    torch.testing.assert_close(gradients(objective), expected)
    assert all(p.grad is None for p in objective.model.image.parameters())


def test_batch_statistics_are_refused_while_they_are_taken():
    config = small_config()
    image = (
        replace(config.image, stem_widths=(4, 8))
        if isinstance(config.image, VitConfig)
        else config.image
    )
    objective = build_objective(ClipObjectiveConfig(), build(replace(config, image=image)))
    batch = batch_of(8)
    accumulate(objective, objective, [batch], Peers())
    with pytest.raises(ConfigError, match=r"image tower has batch normalisation.*--micro-batch 0"):
        accumulate(objective, objective, cut(batch, 4, 8), Peers())
    for norm in batch_norms(objective.model.image):  # as of locked layers
        norm.eval()
    accumulate(objective, objective, cut(batch, 4, 8), Peers())
