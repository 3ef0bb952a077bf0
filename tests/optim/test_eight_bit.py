"""AdamW with moments of eight bits: torchao's steps, its memory, its checkpoints."""

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from diptych.config import ModelConfig, OptimConfig, Run, ShardConfig
from diptych.errors import ConfigError
from diptych.optim import Group, build_optimizer, set_learning_rate
from diptych.training import fit
from diptych.training.plan import Machines, plan
from tests.training.runs import assert_same_bits, small_run, weights

EIGHT = OptimConfig(name="adamw-8bit", lr=1e-2, betas=(0.9, 0.98), eps=1e-6)


@pytest.fixture
def torchao():
    return pytest.importorskip("torchao", reason="`pip install 'diptych[low-bit]'`")


def group(*parameters, weight_decay=0.1):
    names = tuple(map(str, range(len(parameters))))
    return (Group(title="", names=names, parameters=parameters, weight_decay=weight_decay),)


def drawn():
    """Whole blocks, blocks with channels last, too few for blocks, and no whole number of them."""
    torch.manual_seed(0)
    weights = [torch.randn(64, 128), torch.randn(32, 16, 4, 4), torch.randn(100), torch.randn(4099)]
    weights[1] = weights[1].contiguous(memory_format=torch.channels_last)
    return weights, [[torch.randn_like(w) for w in weights] for _ in range(4)]


def trained(config, weights, gradients):
    parameters = [nn.Parameter(w.clone()) for w in weights]
    optimizer = build_optimizer(config, group(*parameters))
    for number, step in enumerate(gradients):
        set_learning_rate(optimizer, config.lr / (1 + number))
        for p, gradient in zip(parameters, step, strict=True):
            p.grad = gradient.clone()
        optimizer.step()
    return parameters, optimizer


def in_order(tensor):
    """Of four axes the channels last, as they lie in memory: torchao's takes no other."""
    return tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor


def test_torchaos_own_steps(torchao):
    weights, gradients = drawn()
    ours, _ = trained(EIGHT, weights, gradients)
    # It has no channels last.
    peers = [
        nn.Parameter(w.permute(0, 2, 3, 1).contiguous() if w.ndim == 4 else w.clone())
        for w in weights
    ]
    peer = torchao.optim.AdamW8bit(peers, lr=1e-2, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
    with torch.compiler.set_stance("force_eager"):
        for number, step in enumerate(gradients):
            peer.param_groups[0]["lr"].fill_(1e-2 / (1 + number))
            for p, gradient in zip(peers, step, strict=True):
                p.grad = in_order(gradient)
            peer.step()
    for mine, theirs in zip(ours, peers, strict=True):
        torch.testing.assert_close(in_order(mine), theirs, rtol=0, atol=1e-7)


def test_it_follows_adamw_with_a_quarter_of_its_memory(torchao):
    weights, gradients = drawn()
    (ours, low), (theirs, whole) = (
        trained(config, weights, gradients) for config in (EIGHT, replace(EIGHT, name="adamw"))
    )
    for start, mine, other in zip(weights, ours, theirs, strict=True):
        with torch.no_grad():
            steps, error = (other - start).norm(), (mine - other).norm()
        assert (1e-4 * steps if start.numel() % 256 == 0 else -1) < error < 0.03 * steps
    small, large = (
        sum(t.nbytes for t in optimizer.state[optimizer.param_groups[0]["params"][0]].values())
        for optimizer in (low, whole)
    )
    count = 64 * 128
    assert small == 2 * (count + count // 256 * 4) + 4
    assert large == 2 * 4 * count + 4


def test_resumed_it_is_the_same_bit_for_bit(torchao, tmp_path):
    run = replace(small_run(tmp_path / "whole"), optim=replace(EIGHT, lr=1e-3, schedule="constant"))
    fit(run, progress=False)
    part = replace(run, out=str(tmp_path / "part"))
    fit(replace(part, steps=4), progress=False)
    fit(part, progress=False, resume=True)
    last = "checkpoints/step-00000012"
    assert_same_bits(tmp_path / "part" / last, tmp_path / "whole" / last)
    saved = weights(tmp_path / "whole" / last)
    assert torch.uint8 in {t.dtype for name, t in saved.items() if "exp_avg" in name}


def test_a_plan_counts_it(torchao):
    run = Run(model=ModelConfig(name="tiny"), batch_size=8, steps=10)
    whole, low = (
        plan(replace(run, optim=config), Machines(gpus=1)).devices[0].optimizer
        for config in (OptimConfig(), EIGHT)
    )
    assert 0.25 < low / whole < 0.27


def test_on_shards_it_is_refused():
    with pytest.raises(
        ConfigError, match="adamw-8bit has no sharded form: leave --shard.mode zero2"
    ):
        Run(optim=EIGHT, shard=ShardConfig(mode="zero2"), steps=1)


def test_without_torchao_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.optim.adam", None)
    with pytest.raises(ConfigError, match="needs torchao: `pip install 'diptych\\[low-bit\\]'`"):
        build_optimizer(EIGHT, group(nn.Parameter(torch.zeros(2))))
