"""Two processes give the losses and gradients of one, for every composed objective."""

from dataclasses import replace

import pytest
import torch

from diptych.config import ClipObjectiveConfig
from diptych.distributed import Peers, data_parallel
from diptych.families.declip.published_config import (
    PublishedDeclipObjectiveConfig,
    PublishedSimSiamConfig,
)
from diptych.models import build
from diptych.objectives import build_objective
from tests.distributed.harness import run_processes
from tests.objectives.composed import CONFIGS, SIM_SIAM, batch, model_config

EACH = 3
NAMES = [name for name in CONFIGS if name != "declip, siglip" and "coca" not in name]
"""But CoCa's, whose tower wants padding behind a caption's end: test_shard.py has its processes."""


def trimmed(rows):
    """As a loader gives them: as long as the longest of these captions."""
    assert rows.lengths is not None
    texts = (text[:, : max(each.host)] for text, each in zip(rows.texts, rows.lengths, strict=True))
    labels = None if rows.mlm_labels is None else rows.mlm_labels[:, : max(rows.lengths[0].host)]
    return replace(rows, texts=tuple(texts), mlm_labels=labels)


def step(peers):
    """Of each objective: its losses, its gradients, and its buffers after the step."""
    found = {}
    for name in NAMES:
        torch.manual_seed(0)
        objective = build_objective(CONFIGS[name], build(model_config(name))).double().train()
        torch.manual_seed(5)  # the longest captions of the processes have 11 and 9 tokens
        whole = batch(objective.views, 2 * EACH)
        share = 2 * EACH // peers.size
        wrapped = data_parallel(objective, peers)
        rows = whole.rows(peers.rank * share, (peers.rank + 1) * share)
        losses = wrapped(rows if objective.views.whole_length else trimmed(rows), peers)
        losses.total.backward()
        objective.after_step(losses.carry)
        gradients = {key: p.grad for key, p in objective.named_parameters() if p.grad is not None}
        buffers = {key: b for key, b in objective.named_buffers() if b.is_floating_point()}
        found[name] = losses.total.detach(), gradients, buffers
    return found


@pytest.mark.parametrize("size", [2])
def test_two_processes_equal_one(size):
    results, alone = run_processes(size, step), step(Peers())
    for name in NAMES:
        total, gradients, buffers = alone[name]
        torch.testing.assert_close(sum(result[name][0] for result in results) / size, total)
        for _, theirs, remembered in (result[name] for result in results):
            for key, gradient in gradients.items():
                torch.testing.assert_close(
                    theirs[key], gradient, rtol=1e-6, atol=1e-9, msg=f"{name} {key}"
                )
            for key, buffer in buffers.items():
                if not key.startswith("queue.rows"):
                    torch.testing.assert_close(remembered[key], buffer, msg=f"{name} {key}")
                else:  # two pushes a step: the same rows, in the order of the processes
                    assert torch.allclose(remembered[key], buffer), name


def own_statistics(peers, rows):
    """Running means of DeCLIP's heads and its queue, after a step on some rows, each process as if
    it were alone."""
    views = PublishedSimSiamConfig(width=SIM_SIAM.width, hidden=SIM_SIAM.hidden)
    config = PublishedDeclipObjectiveConfig(
        pairs=ClipObjectiveConfig(),
        views=views,
        queue=16,
        contrast_masked=False,
        share_words=True,
    )
    torch.manual_seed(0)
    objective = build_objective(config, build(model_config("declip"))).double().train()
    torch.manual_seed(1)
    whole = batch(objective.views, 2 * EACH)
    losses = data_parallel(objective, peers)(whole.rows(*rows[peers.rank]), peers)
    losses.total.backward()
    objective.after_step(losses.carry)
    return {
        name: b
        for name, b in objective.named_buffers()
        if "running_mean" in name or name == "queue.rows"
    }


def test_statistics_and_queue_of_ones_own():
    rows = ((0, EACH), (EACH, 2 * EACH))
    for own, found in zip(rows, run_processes(2, own_statistics, rows)):
        for name, buffer in own_statistics(Peers(), (own,)).items():
            torch.testing.assert_close(found[name], buffer, msg=name)
