"""Masked image modelling: loss and gradients beside a plain implementation; grids; refusals."""

from dataclasses import replace

import pytest
import torch

from diptych.batch import Batch, HiddenPatches
from diptych.config import MimObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.families.clip import ResNetConfig
from diptych.families.eva import EvaConfig
from diptych.families.siglip import SiglipImageConfig
from diptych.models import build
from diptych.objectives import accumulate, build_objective
from diptych.objectives.mim import interpolated
from tests.objectives.small import SMALL_EVA as EVA
from tests.objectives.small import small_config

CONFIG = MimObjectiveConfig(teachers=("teacher",))


def objective_of(image=EVA, teacher=None, **options):
    torch.manual_seed(0)
    config = small_config()
    taught = build(replace(config, image=teacher or config.image), dtype=torch.float64)
    model = build(replace(config, image=image), dtype=torch.float64)
    with torch.no_grad():
        for parameter in (*model.image.parameters(), *taught.image.parameters()):
            parameter.add_(torch.randn_like(parameter) / 8)  # nothing is 0, so nothing is hidden
    return build_objective(replace(CONFIG, **options), model.train(), [taught]).double()


def batch_of(objective, pairs, equal=True):
    torch.manual_seed(2)
    size, patches = objective.model.config.image.image_size, objective.side**2
    places = torch.zeros(pairs, patches, dtype=torch.bool)
    for row in range(pairs):
        places[row, torch.randperm(patches)[: 4 if equal else 2 + row]] = True
    return Batch(
        images=(torch.randint(0, 256, (pairs, 3, size, size), dtype=torch.uint8),),
        texts=(),
        index=torch.arange(pairs),
        normalise=lambda levels: levels.double() / 255 - 0.5,
        hidden=HiddenPatches.of(places),
    )


def plain(objective, batch):
    """As the algorithm reads, picture by picture; the tower's blocks are taken as they are."""
    tower, teacher, cosines = objective.model.image, objective.teacher, []
    for levels, hidden in zip(batch.images[0], batch.hidden.places, strict=True):
        patches = tower.patch(batch.normalise(levels)[None])[0].flatten(1).T
        patches = [
            objective.mask_token[0] if gone else patch
            for gone, patch in zip(hidden.tolist(), patches, strict=True)
        ]
        x = torch.stack([tower.class_token, *patches]) + tower.positions
        angles = ()
        if isinstance(tower.config, EvaConfig):
            angles = (tower.embed(torch.zeros(1, 3, 16, 16, dtype=x.dtype))[1],)
        x = (x if angles else tower.norm_pre(x))[None]
        for block in tower.blocks:
            x = block(x, *angles)
        said = tower.projection(tower.norm_post(x))[0, 1:]
        seen = teacher.image(teacher.pixels(levels[None]), "projected").tokens[0, 1:].detach()
        for place in hidden.nonzero()[:, 0]:
            length = said[place].norm() * seen[place].norm()
            cosines.append(said[place] @ seen[place] / length)
    return -sum(cosines) / len(cosines)


@pytest.mark.parametrize("image", [EVA, small_config().image], ids=["eva", "vit"])
@pytest.mark.parametrize("equal", [True, False])
def test_loss_and_gradients_are_a_plain_implementations(image, equal):
    objective = objective_of(image)
    batch = batch_of(objective, 3, equal)
    weights = [p for p in objective.parameters() if p.requires_grad]
    expected = plain(objective, batch)
    wanted = torch.autograd.grad(expected, weights)
    found = objective(batch, Peers()).total
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(found, weights), wanted, rtol=0, atol=1e-12)
    assert all(gradient.abs().sum() > 0 for gradient in wanted)


@pytest.mark.parametrize("equal", [True, False])
def test_micro_batches_add_up_without_a_second_pass(equal):
    objective, calls = objective_of(), []
    objective.model.image.register_forward_hook(lambda *_: calls.append(1))
    batch, found = batch_of(objective, 6, equal), []
    for cut in ([(0, 6)], [(0, 2), (2, 4), (4, 6)], [(0, 4), (4, 6)]):
        objective.zero_grad()
        calls.clear()
        losses = accumulate(objective, objective, [batch.rows(*rows) for rows in cut], Peers())
        weights = [p.grad.clone() for p in objective.parameters() if p.requires_grad]
        found.append((losses.total, losses.metrics["loss"], weights))
        assert len(calls) == len(cut)
    torch.testing.assert_close(found[1:], [found[0]] * 2, rtol=0, atol=1e-12)


def test_the_gradient_of_patches_is_scaled_and_nothing_else():
    objective = objective_of()
    batch, found = batch_of(objective, 2), {}
    for factor in (1.0, 0.1):
        objective.model.image.set_patch_gradient(factor)
        objective.zero_grad()
        loss = objective(batch, Peers()).total
        loss.backward()
        found[factor] = (
            loss.detach(),
            {name: p.grad for name, p in objective.named_parameters() if p.requires_grad},
        )
    assert found[1.0][0] == found[0.1][0]
    for name, gradient in found[1.0][1].items():
        scale = 0.1 if name.startswith("model.image.patch.") else 1.0
        torch.testing.assert_close(found[0.1][1][name], gradient * scale)


def test_what_is_trained():
    trained = {n for n, p in objective_of().named_parameters() if p.requires_grad}
    assert {name.partition(".image.")[0] for name in trained} == {"mask_token", "model"}
    siglip = SiglipImageConfig(
        image_size=16, patch_size=4, width=12, layers=1, heads=2, mlp_width=24
    )
    objective = objective_of(siglip)
    objective(batch_of(objective, 2), Peers()).total.backward()
    assert all((p.grad is not None) == p.requires_grad for p in objective.parameters())


def test_another_grid_is_interpolated_and_said():
    """A ramp stays one: what is bilinear has no error on it, but for the edges."""
    ramp = torch.arange(8.0).repeat(8, 1).reshape(1, 64, 1)
    found = interpolated(ramp, 8, 4).view(4, 4)
    assert found[0, 1].item() == pytest.approx(2.5, abs=0.1)
    assert interpolated(ramp, 8, 8) is ramp
    coarse = replace(small_config().image, patch_size=8)
    large = replace(coarse, image_size=32)
    objective = objective_of(teacher=coarse)
    assert objective.remarks == (
        "the teacher's 2 x 2 tokens are interpolated to the model's 4 x 4 patches",
    )
    objective(batch_of(objective, 2), Peers())
    objective = objective_of(teacher=large)
    assert objective.remarks == (
        "the teacher sees pictures of 32 pixels: the crops of 16 are resized for it",
    )
    objective(batch_of(objective, 2), Peers())


def test_towers_without_patches_are_refused_by_name():
    net = ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=4, heads=2)
    with pytest.raises(ConfigError, match="grid of patches, and the model's is a ResNet"):
        objective_of(net)
    with pytest.raises(ConfigError, match="grid of patches, and the teacher's is a ResNet"):
        objective_of(teacher=net)
    with pytest.raises(ConfigError, match="has one teacher, and --objective.teachers names 0"):
        build_objective(MimObjectiveConfig(), build(small_config()))
