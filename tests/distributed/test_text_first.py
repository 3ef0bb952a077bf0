"""Texts travel while the image tower computes, and their gradients while it computes back."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from diptych.batch import TextLengths
from diptych.config import ClipObjectiveConfig, ShardConfig, SiglipObjectiveConfig
from diptych.distributed import Parts, Peers, data_parallel, whole
from diptych.models import build
from diptych.objectives import accumulate, build_objective
from diptych.objectives.features import gather_with_gradient, send
from tests.distributed.harness import run_processes
from tests.objectives.composed import CONFIGS, batch, model_config

ALL = {"clip": ClipObjectiveConfig(), "siglip": SiglipObjectiveConfig()} | CONFIGS
TEXTS = {"declip": 2, "declip, siglip": 2, "defilip": 2}
"""Captions that are contrasted, where they aren't one."""
PAIRS = 4


class Watched:
    """Writes down when a collective of rows of the shared space's width begins and is waited
    for."""

    def __init__(self, log, width):
        self.log, self.width = log, width
        self.collectives = dist.all_gather_into_tensor, dist.reduce_scatter_tensor

    def __enter__(self):
        gather, scatter = self.collectives
        dist.all_gather_into_tensor = lambda to, of, **options: self.seen(
            "gather", gather(to, of, **options), to
        )
        dist.reduce_scatter_tensor = lambda to, of, **options: self.seen(
            "scatter", scatter(to, of, **options), of
        )

    def __exit__(self, *args):
        dist.all_gather_into_tensor, dist.reduce_scatter_tensor = self.collectives

    def seen(self, name, work, everyones):
        if everyones.shape[1:] != (self.width,) or not everyones.is_floating_point():
            return work
        self.log.append(f"{name} begins")
        return Waited(work, lambda: self.log.append(f"{name} ends"))


class Waited:
    def __init__(self, work, say):
        self.work, self.say = work, say

    def wait(self):
        self.work.wait()
        self.say()


def order_of_events(peers, cut):
    """Of each objective, in a forward and a backward pass, of `cut` micro-batches."""
    found = {}
    for name, config in ALL.items():
        torch.manual_seed(0)
        objective = build_objective(config, build(model_config(name), dtype=torch.float64)).double()
        wrapped, log = data_parallel(objective, peers), []
        tower = objective.model.image
        tower.register_forward_pre_hook(lambda *_, log=log: log.append("image"))
        tower.blocks[0].mlp.up.weight.register_hook(lambda _, log=log: log.append("image back"))
        data = batch(objective.views, PAIRS)
        forward = objective.loss
        objective.loss = lambda *args, log=log, loss=forward: (log.append("loss"), loss(*args))[1]
        size = PAIRS // cut
        with Watched(log, model_config(name).embed_dim):
            accumulate(
                objective, wrapped, [data.rows(i * size, (i + 1) * size) for i in range(cut)], peers
            )
        found[name] = log
    return found


@pytest.fixture(scope="module")
def events():
    return {cut: run_processes(2, order_of_events, cut)[0] for cut in (1, 2)}


@pytest.mark.parametrize("name", ALL)
def test_texts_travel_while_the_image_tower_computes(name, events):
    log, texts = events[1][name], TEXTS.get(name, 1)
    assert log[: texts + 1] == ["gather begins"] * texts + ["image"]
    behind = log[log.index("loss") :]
    image = behind.index("image back")
    # Both ways each is gathered once, however many losses read it.
    assert behind[:image].count("scatter begins") == texts
    assert "scatter ends" not in behind[:image]
    assert behind[image:].count("scatter ends") == texts


@pytest.mark.parametrize("name", ALL)
def test_so_do_those_of_micro_batches(name, events):
    """While each one's picture is computed, and in the order of one batch."""
    log, texts = events[2][name], TEXTS.get(name, 1)
    passes = log[: log.index("loss")]
    assert passes == (["gather begins"] * texts + ["image"]) * 2
    one, two = (each[each.index("loss") :] for each in (events[1][name], log))
    assert two.count("gather begins") == one.count("gather begins")  # of pictures, in DeCLIP's
    assert two.count("gather ends") == one.count("gather ends") + texts


def shares(peers):
    """Gradients through rows that were sent, read three times, beside those of a plain gather."""
    torch.manual_seed(peers.rank)
    local = torch.randn(3, 2, dtype=torch.float64)
    weight = torch.randn(3 * peers.size, 2, dtype=torch.float64)
    found = []
    for begun in (True, False):
        leaf = local.clone().requires_grad_()
        rows = send(leaf * 2, peers) if begun else leaf * 2
        total = (gather_with_gradient(rows, peers) * weight).sum()
        total = total + (gather_with_gradient(rows, peers) ** 2).sum() + rows.sum()
        total.backward()
        found.append((total.detach(), leaf.grad))
    unused = local.clone().requires_grad_()
    send(unused, peers).sum().backward()
    with torch.no_grad():
        gathered = gather_with_gradient(send(local, peers), peers)
    return found, unused.grad, gathered


def test_gradients_of_sent_rows_are_those_of_gathered_ones():
    results = run_processes(2, shares)
    for found, unused, gathered in results:
        torch.testing.assert_close(*found, rtol=0, atol=1e-12)
        assert unused.eq(1).all()
        assert gathered.equal(results[0][2])


def unequal(peers, mode):
    """Loss and gradients where one process has short captions alone; without a mode, of the padded
    batch."""
    torch.manual_seed(0)
    model = build(model_config("clip"), "cpu", torch.float64)
    objective = build_objective(ClipObjectiveConfig(), model).double()
    torch.manual_seed(1)
    data = batch(objective.views, 2 * PAIRS)
    texts, lengths = data.texts[0].clone(), [3] * PAIRS + [20, 4, 11, 17]
    texts[:, 2:] = texts[:, 2:].clamp(max=28)
    texts[torch.arange(2 * PAIRS), torch.tensor(lengths) - 1] = 29
    known = (TextLengths.of(lengths),) if mode else None
    data = replace(data, texts=(texts,), lengths=known)
    if mode is None:
        wrapped = objective
    else:
        towers = (model.image, model.text)
        wrapped = data_parallel(objective, peers, ShardConfig(mode=mode), Parts(towers))
        data = data.rows(peers.rank * PAIRS, (peers.rank + 1) * PAIRS)
    total = accumulate(objective, wrapped, [data], peers).total
    gradients = {
        name: whole(p.grad).clone() for name, p in objective.named_parameters() if p.requires_grad
    }
    return peers.sum(total) / peers.size, gradients


@pytest.mark.parametrize("mode", ["replicate", "zero3"])
def test_processes_with_very_different_captions_train_as_one(mode):
    expected = unequal(Peers(), None)
    for found in run_processes(2, unequal, mode):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
