"""AdamW with moments of eight bits: torchao's steps, its memory, its checkpoints."""

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from diptych.config import ModelConfig, OptimConfig, Run
from diptych.distributed import shard_like, whole
from diptych.errors import ConfigError
from diptych.optim import Group, build_optimizer, set_learning_rate
from diptych.training import fit
from diptych.training.trace import trace
from tests.distributed.harness import run_processes
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
    weights = [torch.randn(32, 256), torch.randn(32, 16, 4, 4), torch.randn(100), torch.randn(4099)]
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


def test_torchaos_own_steps(torchao):
    weights, gradients = drawn()
    ours, _ = trained(EIGHT, weights, gradients)
    # It has no channels last.
    peers = [nn.Parameter(w.clone(memory_format=torch.contiguous_format)) for w in weights]
    peer = torchao.optim.AdamW8bit(peers, lr=1e-2, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
    with torch.compiler.set_stance("force_eager"):
        for number, step in enumerate(gradients):
            peer.param_groups[0]["lr"].fill_(1e-2 / (1 + number))
            for p, gradient in zip(peers, step, strict=True):
                p.grad = gradient.contiguous()
            peer.step()
    for mine, theirs in zip(ours, peers, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-7)


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
    count = 32 * 256
    assert small == 2 * (count + count // 256 * 4) + 4
    assert large == 2 * 4 * count + 4


def test_resumed_it_is_the_same_bit_for_bit(torchao, tmp_path):
    optim = replace(EIGHT, lr=1e-3, schedule="constant")
    run = small_run(tmp_path / "whole", optim=optim, steps=4)
    fit(run, progress=False)
    part = replace(run, out=str(tmp_path / "part"))
    fit(replace(part, steps=2), progress=False)
    fit(part, progress=False, resume=True)
    last = "checkpoints/step-00000004"
    assert_same_bits(tmp_path / "part" / last, tmp_path / "whole" / last)
    saved = weights(tmp_path / "whole" / last)
    assert torch.uint8 in {t.dtype for name, t in saved.items() if "exp_avg" in name}


def test_a_plan_counts_it(torchao):
    run = Run(model=ModelConfig(name="tiny"), batch_size=8, steps=10)
    whole, low = (
        trace(replace(run, optim=config), 2).optimizer for config in (OptimConfig(), EIGHT)
    )
    assert 0.25 < low / whole < 0.28


def sharded_steps(peers):
    """Weights and moments after four steps: whole, and gathered from shards. Rows are split
    unevenly, and the second process has none of the third weight."""
    torch.manual_seed(0)
    weights = [torch.randn(17, 256), torch.randn(5, 1408), torch.randn(1, 4096), torch.randn(7)]
    gradients = [[torch.randn_like(w) for w in weights] for _ in range(4)]
    mesh = init_device_mesh("cpu", (peers.size,))

    def spread(tensors):
        return [distribute_tensor(tensor, mesh, [Shard(0)]) for tensor in tensors]

    parameters, one = trained(EIGHT, weights, gradients)
    shards, many = trained(EIGHT, spread(weights), [spread(step) for step in gradients])
    for shard in shards:  # as a checkpoint is read
        many.state[shard] = {
            key: shard_like(shard, whole(tensor)) for key, tensor in many.state[shard].items()
        }
    return [
        [{"weight": whole(p.detach()), **gathered(optimizer.state[p])} for p in each]
        for each, optimizer in ((parameters, one), (shards, many))
    ]


def gathered(state):
    return {key: whole(tensor) for key, tensor in state.items()}


def test_shards_move_as_the_whole_bit_for_bit(torchao):
    for expected, found in run_processes(2, sharded_steps):
        for one, many in zip(expected, found, strict=True):
            assert one.keys() == many.keys()
            assert all(many[key].equal(one[key]) for key in one)


def test_without_torchao_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.optim.adam", None)
    with pytest.raises(ConfigError, match="needs torchao: `pip install 'diptych\\[low-bit\\]'`"):
        build_optimizer(EIGHT, group(nn.Parameter(torch.zeros(2))))


@pytest.mark.parametrize(
    ("shape", "scales"),
    [((16, 384), (16, 3)), ((64, 8, 3, 3), None), ((9, 1408), (9, 11)), ((8192,), None)],
)
def test_no_block_reaches_beyond_a_row(torchao, shape, scales):
    _, optimizer = trained(EIGHT, [torch.randn(shape)], [[torch.randn(shape)]])
    (state,) = optimizer.state.values()
    assert state["exp_avg"].shape == shape
    assert (state["exp_avg"].dtype == torch.uint8) == (scales is not None)
    assert scales is None or state["exp_avg_scale"].shape == scales
