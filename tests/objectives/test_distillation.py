"""Contrastive distillation: against a plain implementation, open_clip, and values by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from diptych import models
from diptych.batch import Batch, Taught
from diptych.config import DistillObjectiveConfig, SiglipObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.objectives import accumulate, build_objective
from diptych.objectives.distillation import Said, distillation
from tests.distributed.harness import run_processes
from tests.objectives.small import batch_of, small_config


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pairs_of(count: int, width: int, dtype: torch.dtype = torch.float64):
    return [F.normalize(torch.randn(count, width, dtype=dtype), dim=1) for _ in range(2)]


def plain(images, texts, scale, teachers, form="kl"):
    """Equation 3 of arXiv:2311.17049, a sum at a time."""
    total = 0.0
    for temperature, (seen, read) in teachers:
        for mine, other, own, others in ((images, texts, seen, read), (texts, images, read, seen)):
            target = torch.softmax(own @ others.T / temperature, dim=1)
            student = torch.softmax(scale * mine @ other.T, dim=1)
            each = -(target * student.log()).sum(1)
            if form == "kl":
                each = each + (target * target.log()).sum(1)
            total = total + each.mean() / 2 / len(teachers)
    return total


def said(teachers):
    return [Said(seen / temperature, read) for temperature, (seen, read) in teachers]


def value_and_gradients(function, *inputs):
    leaves = [each.detach().clone().requires_grad_() for each in inputs]
    value = function(*leaves)
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("form", ["kl", "cross_entropy"])
@pytest.mark.parametrize("tile", [1, 5, 100])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_it_is_the_equation_for_teachers_of_other_widths(form, tile, scale):
    inputs = (*pairs_of(13, 8), torch.tensor([scale], dtype=torch.float64))
    teachers = [(0.05, pairs_of(13, 24)), (0.2, pairs_of(13, 5))]
    ours = value_and_gradients(
        lambda *x: distillation(*x, said(teachers), form=form, tile=tile), *inputs
    )
    reference = value_and_gradients(lambda *x: plain(*x, teachers, form), *inputs)
    for one, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_by_hand():
    # Two pairs; the teacher is sure of nothing, the model's logits are 1 and 0:
    # KL = log 1/2 - 1/2 (log e/(1+e) + log 1/(1+e)) in each row, either way.
    teacher = Said(torch.zeros(2, 1), torch.zeros(2, 1))
    found = distillation(torch.eye(2), torch.eye(2), torch.tensor(1.0), [teacher])
    e = math.e
    by_hand = math.log(0.5) - 0.5 * (math.log(e / (1 + e)) + math.log(1 / (1 + e)))
    assert found.item() == pytest.approx(by_hand, abs=1e-6)
    entropy = distillation(
        torch.eye(2), torch.eye(2), torch.tensor(1.0), [teacher], form="cross_entropy"
    )
    assert entropy.item() - found.item() == pytest.approx(math.log(2), abs=1e-6)


def test_it_is_zero_where_model_and_teacher_agree_and_extreme_logits_stay_finite():
    images, texts = pairs_of(9, 6, torch.float32)
    scale = torch.tensor([3000.0], requires_grad=True)
    found = distillation(images, texts, scale, [Said(3000 * images, texts)])
    assert abs(found.item()) < 1e-3
    far = distillation(images, texts, scale, [Said(-3000 * images, texts)])
    far.backward()
    assert far.isfinite()
    assert scale.grad.isfinite().all()


def test_it_is_open_clips():
    loss = pytest.importorskip("open_clip.loss").DistillClipLoss()
    images, texts = pairs_of(11, 8, torch.float32)
    seen, read = pairs_of(11, 20, torch.float32)
    scale, own = torch.tensor(30.0), torch.tensor(60.0)

    def theirs(images, texts, scale):
        return sum(loss(images, texts, scale, seen, read, own))

    config = DistillObjectiveConfig(form="cross_entropy", weight=1.0, pairs_weight=1.0, tile=4)
    objective = build_objective(config, models.build(small_config()))

    def ours(images, texts, scale):
        object.__setattr__(objective.contrastive, "scale", lambda: scale)
        features = {"image": images, "text": texts, "teacher 0: image": own * seen}
        return objective.loss(features | {"teacher 0: text": read}, Peers()).total

    reference = value_and_gradients(theirs, images, texts, scale)
    for one, other in zip(value_and_gradients(ours, images, texts, scale), reference, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def stored_batch(pairs: int) -> Batch:
    generator = torch.Generator().manual_seed(7)
    taught = [
        Taught(
            *(F.normalize(torch.randn(pairs, w, generator=generator), dim=1) for _ in range(2)),
            scale,
        )
        for w, scale in ((10, 20.0), (3, 50.0))
    ]
    torch.manual_seed(3)
    batch = batch_of(pairs)
    return Batch(images=batch.images, texts=batch.texts, index=batch.index, taught=tuple(taught))


def objective_of(**options):
    torch.manual_seed(1)
    return build_objective(DistillObjectiveConfig(**options), models.build(small_config()))


def test_weights_and_temperatures_are_those_of_the_configuration():
    batch = stored_batch(6)
    losses = objective_of(weight=0.75)(batch)
    parts = losses.metrics
    assert losses.total.item() == pytest.approx(
        0.25 * parts["pairs"].item() + 0.75 * parts["teachers"].item(), rel=1e-6
    )
    both = objective_of(weight=0.75, pairs_weight=2.0)(batch).total.item()
    assert both == pytest.approx(
        2 * parts["pairs"].item() + 0.75 * parts["teachers"].item(), rel=1e-6
    )
    objective = objective_of(temperatures=(0.1, 0.3))
    features = objective.features(batch)
    teachers = [
        (temperature, (taught.images, taught.texts))
        for temperature, taught in zip((0.1, 0.3), batch.taught, strict=True)
    ]
    scale = objective.model.logit_scale.exp()
    expected = plain(features["image"], features["text"], scale, teachers)
    torch.testing.assert_close(objective(batch).metrics["teachers"], expected.detach())


def test_with_a_sigmoid_beside_it_and_a_teacher_with_a_bias():
    config = DistillObjectiveConfig(pairs=SiglipObjectiveConfig(), weight=0.5)
    objective = build_objective(config, models.build(config.adapt(small_config())))
    metrics = objective(stored_batch(4)).metrics
    assert {"pairs", "teachers", "bias", "scale"} <= metrics.keys()


def gradients(objective):
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.requires_grad}


def test_micro_batches_give_the_whole_batchs_gradient():
    batch, found = stored_batch(8), []
    for size in (8, 2):
        objective = objective_of(weight=0.6).train()
        parts = [batch.rows(start, start + size) for start in range(0, 8, size)]
        losses = accumulate(objective, objective, parts, Peers())
        found.append((losses.total, gradients(objective)))
    (whole, one), (parts, other) = found
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def _in_parts(peers: Peers):
    objective, share = objective_of(weight=0.6).train(), 8 // peers.size
    own = stored_batch(8).rows(peers.rank * share, (peers.rank + 1) * share)
    losses = objective(own, peers)
    losses.total.backward()
    mean = peers.sum(losses.total.detach()) / peers.size
    found = gradients(objective)
    return mean, {name: peers.sum(gradient) / peers.size for name, gradient in found.items()}


def test_two_processes_are_one():
    one, weights = _in_parts(Peers())
    for two, others in run_processes(2, _in_parts):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(others, weights, rtol=1e-4, atol=1e-6)


def test_a_batch_that_knows_of_no_teacher_is_refused_in_training_and_contrasted_otherwise():
    objective = objective_of()
    with pytest.raises(ConfigError, match="nothing of a teacher"):
        objective.train()(batch_of(4))
    losses = objective.eval()(batch_of(4))
    assert losses.total == losses.metrics["pairs"]


def test_temperatures_are_counted():
    with pytest.raises(ConfigError, match="temperatures has 1 values for 2 teachers"):
        DistillObjectiveConfig(teachers=("a", "b"), temperatures=(0.1,))
