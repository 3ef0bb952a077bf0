"""LAMB and Lion: recorded steps of EVA-CLIP's code, other libraries, equations, and shards."""

import math

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from diptych.config import OptimConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError, UnknownNameError
from diptych.optim import Group, build_optimizer, set_learning_rate
from tests import goldens
from tests.distributed.harness import run_processes

SHAPES = ((5, 7), (7,), (3, 2, 2), (1,), (4, 3))


def groups_of(parameters, decays, scales=None):
    """A group for each parameter."""
    return tuple(
        Group(title="", names=(str(i),), parameters=(p,), weight_decay=decay, scale=scale)
        for i, (p, decay, scale) in enumerate(
            zip(parameters, decays, scales or [1.0] * len(decays), strict=True)
        )
    )


def drawn(dtype=torch.float64, seed=0):
    """Weights, one of which starts at 0, and their gradients over four steps."""
    generator = torch.Generator().manual_seed(seed)

    def tensors():
        return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]

    weights = tensors()
    weights[2].zero_()
    gradients = [[3 * g for g in tensors()] for _ in range(4)]
    return [w.to(dtype) for w in weights], [[g.to(dtype) for g in step] for step in gradients]


def trained(name, weights, gradients, decays, lr=0.01, betas=(0.9, 0.98), eps=1e-6):
    """The weights after a step with each of the gradients, at falling rates."""
    parameters = [nn.Parameter(w.clone()) for w in weights]
    config = OptimConfig(name=name, lr=lr, betas=betas, eps=eps)
    optimizer = build_optimizer(config, groups_of(parameters, decays))
    for number, step in enumerate(gradients):
        set_learning_rate(optimizer, lr / (1 + number))
        for p, gradient in zip(parameters, step, strict=True):
            p.grad = gradient.clone()
        optimizer.step()
    return [p.detach() for p in parameters]


def test_recorded_steps_of_eva_clips_code():
    path = goldens.FOLDER / "eva/eva-optim-preprocess.json"
    recorded = goldens.read(path)["lamb"]
    assert recorded["max_grad_norm"] == 1.0
    parameters = [nn.Parameter(torch.tensor(w)) for w in recorded["init"]]
    config = OptimConfig(
        name="lamb", lr=recorded["lr"], betas=tuple(recorded["betas"]), eps=recorded["eps"]
    )
    optimizer = build_optimizer(config, groups_of(parameters, recorded["weight_decay"]))
    set_learning_rate(optimizer, recorded["lr"])
    for step in recorded["grads"]:
        for p, gradient in zip(parameters, step, strict=True):
            p.grad = torch.tensor(gradient)
        optimizer.step()
    for p, expected in zip(parameters, recorded["final"], strict=True):
        torch.testing.assert_close(p.detach(), torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["lamb", "lion"])
def test_timms_steps(name):
    optim = pytest.importorskip("timm.optim")
    weights, gradients = drawn()
    decays = [0.1, 0.0, 0.1, 0.0, 0.02]
    peers = [nn.Parameter(w.clone()) for w in weights]
    kind = {"lamb": optim.Lamb, "lion": optim.Lion}[name]
    eps = {"eps": 1e-6} if name == "lamb" else {}
    peer = kind(
        [{"params": [p], "weight_decay": d} for p, d in zip(peers, decays, strict=True)],
        lr=0.01,
        betas=(0.9, 0.98),
        **eps,
    )
    for number, step in enumerate(gradients):
        for group in peer.param_groups:
            group["lr"] = 0.01 / (1 + number)
        for p, gradient in zip(peers, step, strict=True):
            p.grad = gradient.clone()
        peer.step()
    ours = trained(name, weights, gradients, decays)
    for mine, theirs in zip(ours, peers, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=0, atol=1e-12)


def test_deepspeeds_steps_are_its_equations():
    """A tensor at a time, in Python's numbers: bias is corrected in the rate, every tensor has a
    trust ratio, from 0.01 to 10; a tensor that is 0 has 1."""
    weights, gradients = drawn()
    weights[4] *= 1000  # for which the ratio reaches 10
    weights[3] *= 1e-4  # and 0.01
    decays = [0.1, 0.0, 0.1, 0.0, 0.0]
    ours = trained("lamb-deepspeed", weights, gradients, decays)
    seen = set()
    for i, w in enumerate(weights):
        m, v, w = torch.zeros_like(w), torch.zeros_like(w), w.clone()
        for t, step in enumerate(gradients, 1):
            m = 0.9 * m + 0.1 * step[i]
            v = 0.98 * v + 0.02 * step[i] ** 2
            u = m / (v.sqrt() + 1e-6) + decays[i] * w
            ratio = 1.0
            if float(w.norm()) > 0:
                ratio = min(10.0, max(0.01, float(w.norm() / u.norm())))
            seen.add(ratio)
            w = w - 0.01 / t * math.sqrt(1 - 0.98**t) / (1 - 0.9**t) * ratio * u
        torch.testing.assert_close(ours[i], w, rtol=0, atol=1e-10)
    assert {1.0, 10.0, 0.01} < seen


def sharded_steps(peers: Peers, name: str, mesh_shape: tuple[int, ...]):
    """The weights after four steps: whole, and gathered from shards."""
    weights, gradients = drawn()
    decays = [0.1, 0.0, 0.1, 0.0, 0.02]
    names = ("replicas", "shards")[-len(mesh_shape) :]
    mesh = init_device_mesh("cpu", mesh_shape, mesh_dim_names=names)
    places = [Replicate(), Shard(0)][-len(mesh_shape) :]

    def spread(tensor):
        return distribute_tensor(tensor, mesh, places)

    # Rows are split unevenly (5, 7, 3), and the second process has nothing of the scale [1].
    shards = trained(
        name,
        [spread(w) for w in weights[:-1]] + weights[-1:],
        [[spread(g) for g in step[:-1]] + step[-1:] for step in gradients],
        decays,
    )
    whole = trained(name, weights, gradients, decays)
    return whole, [w.full_tensor() for w in shards[:-1]] + shards[-1:]


@pytest.mark.parametrize("mesh_shape", [(2,), (2, 2)], ids=["sharded", "sharded and replicated"])
def test_shards_move_as_the_whole(mesh_shape):
    results = run_processes(math.prod(mesh_shape), sharded_everything, mesh_shape)
    for by_name in results:
        for whole, shards in by_name:
            for a, b in zip(whole, shards, strict=True):
                torch.testing.assert_close(b, a, rtol=0, atol=1e-12)


def sharded_everything(peers: Peers, mesh_shape: tuple[int, ...]):
    return [sharded_steps(peers, name, mesh_shape) for name in ("lamb", "lamb-deepspeed", "lion")]


def halves(groups, config):
    """An optimiser of somebody's own."""
    return torch.optim.Adagrad(groups, lr=config.lr)


def nothing(groups, config):
    return None


def test_an_optimiser_of_ones_own():
    weights = [nn.Parameter(torch.ones(2))]
    config = OptimConfig(name="tests.optim.test_lamb:halves", lr=0.5)
    assert isinstance(build_optimizer(config, groups_of(weights, [0.0])), torch.optim.Adagrad)
    with pytest.raises(ConfigError, match="gives a NoneType; it must give a torch.optim.Optimizer"):
        build_optimizer(
            OptimConfig(name="tests.optim.test_lamb:nothing"), groups_of(weights, [0.0])
        )


def test_names_that_are_none():
    with pytest.raises(UnknownNameError, match="did you mean 'lamb'"):
        OptimConfig(name="lam")
    with pytest.raises(ConfigError, match="names a file; put its folder on PYTHONPATH"):
        OptimConfig(name="mine.py:halves")
