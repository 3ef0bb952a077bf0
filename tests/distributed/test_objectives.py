"""Many processes give the loss and the gradients of one."""

import pytest
import torch
import torch.nn.functional as F

from diptych.batch import Batch
from diptych.config import ClipConfig, ClipObjectiveConfig, SiglipObjectiveConfig
from diptych.distributed import Peers, data_parallel
from diptych.families.clip import TextConfig, VitConfig
from diptych.models import build
from diptych.objectives import accumulate, build_objective
from diptych.objectives.info_nce import info_nce, tiled_info_nce
from diptych.objectives.sigmoid_loss import sigmoid_loss, tiled_sigmoid_loss
from tests.distributed.harness import run_processes

SMOOTHING = 0.1
SCALES = (8.0, 2000.0)
EACH = 5


def losses(scale, peers):
    """By name: the tiled form on some peers, and the equation."""
    s, bias = (
        torch.tensor([scale], dtype=torch.float64),
        torch.tensor([-scale], dtype=torch.float64),
    )
    return {
        "clip": (
            lambda *x: tiled_info_nce(*x, label_smoothing=SMOOTHING, tile=3, peers=peers),
            info_nce,
            (s,),
        ),
        "siglip": (lambda *x: tiled_sigmoid_loss(*x, tile=3, peers=peers), sigmoid_loss, (s, bias)),
    }


def vectors(pairs):
    torch.manual_seed(1)
    images = torch.randn(pairs, 4, dtype=torch.float64)
    return F.normalize(images, dim=1), F.normalize(
        images + torch.randn(pairs, 4, dtype=torch.float64), dim=1
    )


def value_and_gradients(function, *inputs):
    leaves = [each.detach().clone().requires_grad_() for each in inputs]
    value = function(*leaves)
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]


def shares(peers):
    """Of each loss: value and gradients of this process's rows."""
    own = slice(peers.rank * EACH, (peers.rank + 1) * EACH)
    features = [each[own] for each in vectors(peers.size * EACH)]
    return {
        (name, scale): value_and_gradients(tiled, *features, *rest)
        for scale in SCALES
        for name, (tiled, _, rest) in losses(scale, peers).items()
    }


@pytest.mark.parametrize("size", [2, 3])
def test_losses_and_gradients_averaged_over_processes_are_those_of_one(size):
    results = run_processes(size, shares)
    for scale in SCALES:
        for name, (_, whole, rest) in losses(scale, Peers()).items():
            equation = (
                whole if name == "siglip" else lambda *x: info_nce(*x, label_smoothing=SMOOTHING)
            )
            value, d_images, d_texts, *d_rest = value_and_gradients(
                equation, *vectors(size * EACH), *rest
            )
            shared = [result[name, scale] for result in results]
            torch.testing.assert_close(sum(share[0] for share in shared) / size, value)
            # Averaging over processes divides by their number what each computes of its own
            # features.
            torch.testing.assert_close(torch.cat([share[1] for share in shared]) / size, d_images)
            torch.testing.assert_close(torch.cat([share[2] for share in shared]) / size, d_texts)
            for i, gradient in enumerate(d_rest, 3):
                torch.testing.assert_close(sum(share[i] for share in shared) / size, gradient)


CONFIG = ClipConfig(
    image=VitConfig(image_size=8, patch_size=4, width=16, layers=1, heads=2, mlp_width=32),
    text=TextConfig(context_length=6, vocab_size=30, width=16, layers=1, heads=2, mlp_width=32),
    embed_dim=8,
    logit_bias=-3.0,
)
OBJECTIVES = (ClipObjectiveConfig(tile=3), SiglipObjectiveConfig(tile=3))


def training(peers, pieces):
    """Of each objective: loss and all gradients of two steps (the second has DDP's final
    buckets)."""
    results = []
    for config in OBJECTIVES:
        torch.manual_seed(0)
        objective = build_objective(config, build(CONFIG, dtype=torch.float64))
        wrapped = data_parallel(objective, peers)
        for _ in range(2):
            images, texts = (
                torch.randn(12, 3, 8, 8, dtype=torch.float64),
                torch.randint(1, 30, (12, 6)),
            )
            batch = Batch(images=(images,), texts=(texts,), index=torch.arange(12))
            rows = 12 // peers.size
            batch = batch.rows(peers.rank * rows, (peers.rank + 1) * rows)
            cut = rows // pieces
            micro_batches = [batch.rows(start, start + cut) for start in range(0, rows, cut)]
            objective.zero_grad()
            total = accumulate(objective, wrapped, micro_batches, peers).total
            gradients = {
                name: p.grad.clone()
                for name, p in objective.named_parameters()
                if p.grad is not None
            }
            results.append((peers.sum(total) / peers.size, gradients))
    return results


def both(peers):
    return training(peers, 1), training(peers, 2)


def test_two_processes_with_micro_batches_train_as_one():
    expected = training(Peers(), 1)
    names = {name for name, _ in build(CONFIG).named_parameters(prefix="model")}
    assert expected[-1][1].keys() == names
    assert expected[0][1].keys() == names - {"model.logit_bias"}
    for whole, cut in run_processes(2, both):
        torch.testing.assert_close(whole, expected)
        torch.testing.assert_close(cut, expected)
