import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from diptych import pretrained
from diptych.config import OptimConfig
from diptych.errors import ConfigError
from diptych.models import build
from diptych.optim import (
    build_optimizer,
    decay_groups,
    group_records,
    group_table,
    layer_lr_scales,
    learning_rate,
    norms_and_biases,
    set_learning_rate,
)


def test_the_rate_rises_peaks_and_falls():
    config = OptimConfig(lr=2e-3, warmup=10, final_lr=1e-4)
    rates = [learning_rate(config, step, 110) for step in range(111)]
    assert rates[0] == pytest.approx(2e-4)
    assert rates[9] == rates[10] == 2e-3
    assert rates[60] == pytest.approx((2e-3 + 1e-4) / 2)
    assert rates[110] == pytest.approx(1e-4)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize(
    ("schedule", "middle"), [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5)]
)
def test_the_schedules_at_half_way(schedule, middle):
    assert learning_rate(OptimConfig(lr=1.0, schedule=schedule), 50, 100) == pytest.approx(middle)


def test_a_cooldown_falls_as_open_clips_over_the_last_steps():
    """By its formula: (1 - e / es) ** power * (lr - end) + end, e counted from its first step."""
    config = OptimConfig(
        lr=1.0, warmup=2, schedule="constant", cooldown=0.2, cooldown_power=2.0, final_lr=0.5
    )
    rates = [learning_rate(config, step, 20) for step in range(20)]
    falling = [(1 - e / 4) ** 2 * 0.5 + 0.5 for e in range(4)]
    assert rates == pytest.approx([0.5, 1.0, *[1.0] * 14, *falling])


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"cooldown": 0.1}, "--optim.cooldown 0.1 is of --optim.schedule constant"),
        ({"cooldown_power": 2.0}, "no effect without --optim.cooldown"),
    ],
)
def test_a_cooldown_of_nothing_is_refused(fields, flag):
    with pytest.raises(ConfigError, match=flag):
        OptimConfig(**fields)


def test_a_schedule_in_two_parts_is_the_whole_one():
    whole = OptimConfig(lr=1.0, warmup=10, final_lr=0.1)
    first, second = replace(whole, part=(0.0, 0.75)), replace(whole, part=(0.75, 1.0))
    parts = [learning_rate(first, step, 90) for step in range(90)] + [
        learning_rate(second, step, 30) for step in range(30)
    ]
    assert parts == pytest.approx([learning_rate(whole, step, 120) for step in range(120)])


def test_matrices_decay_and_the_rest_does_not():
    module = nn.ModuleDict(
        {"a": nn.Linear(2, 3), "norm": nn.LayerNorm(3), "table": nn.Embedding(4, 3)}
    )
    module["a"].weight.requires_grad_(False)
    module["b"] = nn.Linear(3, 3)
    groups = decay_groups(module, frozenset({"table.weight"}), 0.1)
    assert [(g.title, g.names, g.weight_decay) for g in groups] == [
        ("decay", ("b.weight",), 0.1),
        ("no decay", ("a.bias", "norm.weight", "norm.bias", "table.weight", "b.bias"), 0.0),
    ]
    assert [line.split() for line in group_table(groups, lr=0.01)] == [
        ["group", "tensors", "weights", "peak", "learning", "rate", "decay"],
        ["decay", "1", "9", "0.01", "0.1"],
        ["no", "decay", "5", "24", "0.01", "0"],
    ]


def test_layers_move_more_slowly_the_earlier_they_are():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    scales = layer_lr_scales({"0.weight": 0, "0.bias": 0, "1.weight": 1, "1.bias": 1}, 0.5)
    groups = decay_groups(module, frozenset(), 0.1, scales)
    assert [(g.names, g.weight_decay, g.scale) for g in groups] == [
        (("1.weight", "2.weight"), 0.1, 1.0),
        (("0.weight",), 0.1, 0.5),
        (("1.bias", "2.bias"), 0.0, 1.0),
        (("0.bias",), 0.0, 0.5),
    ]
    optimizer = build_optimizer(OptimConfig(lr=1.0), groups)
    set_learning_rate(optimizer, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1, 0.2, 0.1]
    # Layers are one line; each stands for itself in the records.
    assert [line.split() for line in group_table(groups, lr=0.2)[1:]] == [
        ["decay", "3", "12", "0.1", "to", "0.2", "0.1"],
        ["no", "decay", "3", "6", "0.1", "to", "0.2", "0"],
    ]
    assert group_records(groups, lr=0.2)[1] == {
        "title": "decay",
        "tensors": 1,
        "weights": 4,
        "lr": 0.1,
        "lr_scale": 0.5,
        "weight_decay": 0.1,
        "names": ["0.weight"],
    }


def test_a_step_is_adamws():
    """One step of AdamW by hand: the first step moves by lr * sign(g), after decoupled decay."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    optimizer = build_optimizer(OptimConfig(lr=1.0, eps=0.0), decay_groups(layer, frozenset(), 0.5))
    set_learning_rate(optimizer, 0.1)
    layer.weight.grad = torch.full((1, 1), -3.0)
    optimizer.step()
    assert layer.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) + 0.1)


def test_a_step_of_sgd_is_nesterovs():
    """v = g + decay * w in the first step, which moves by lr * (g' + momentum * v)."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    config = OptimConfig(name="sgd", lr=1.0, momentum=0.5)
    optimizer = build_optimizer(config, decay_groups(layer, frozenset(), 0.1))
    set_learning_rate(optimizer, 0.1)
    layer.weight.grad = torch.full((1, 1), -3.0)
    optimizer.step()
    assert layer.weight.item() == pytest.approx(2.0 + 0.1 * 1.5 * (3.0 - 0.2))


def test_sgd_starts_momenta_where_a_step_is_skipped_and_beside_others_that_go_on():
    layer, frozen = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    groups = decay_groups(nn.ModuleList([layer, frozen]), frozenset(), 0.0)
    optimizer = build_optimizer(OptimConfig(name="sgd", momentum=0.5), groups)
    set_learning_rate(optimizer, 0.1)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.full((1, 2), torch.inf)
    optimizer.found_inf = torch.ones(())  # as torch's loss scaling does
    optimizer.step()
    del optimizer.found_inf
    assert layer.weight.equal(before)
    assert not optimizer.state[layer.weight]["momentum_buffer"].any()
    for each in (layer, frozen):
        each.weight.grad = torch.ones(1, 2)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before - 0.1 * 1.5)


def test_tables_decay_but_norms_biases_and_scales_do_not():
    module = build(pretrained.get("tiny"), device="meta")
    spared = norms_and_biases(module)
    [decayed, rest] = decay_groups(module, spared, 0.1, vectors=True)
    assert {"image.positions", "text.positions", "text.blocks.0.attention.qkv.bias"} <= set(
        decayed.names
    )
    assert {"logit_scale", "image.norm_post.weight", "text.blocks.0.attention.out.bias"} <= set(
        rest.names
    )
    assert set(rest.names) == spared


def test_impossible_values_name_the_flag():
    with pytest.raises(ConfigError, match=r"--optim.start-lr 0.1 needs 2 or more steps of warm-up"):
        OptimConfig(start_lr=0.1)
    with pytest.raises(ConfigError, match=r"--optim.lr 0.0 must be a number above 0"):
        OptimConfig(lr=0.0)
    with pytest.raises(ConfigError, match=r"--optim.part \(0.5, 0.5\) must be two rising numbers"):
        OptimConfig(part=(0.5, 0.5))
    assert math.isclose(learning_rate(OptimConfig(lr=1.0, warmup=4), 0, 4), 0.25)
