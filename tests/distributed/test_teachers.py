"""With teachers, too, many processes train as one does, however they are spread: float64."""

from dataclasses import replace

import pytest
import torch

from diptych.batch import HiddenPatches
from diptych.config import MimObjectiveConfig, OptimConfig, Run, ShardConfig
from diptych.distributed import Peers, data_parallel, whole
from diptych.interrupts import listening
from diptych.models import build
from diptych.objectives import build_objective
from diptych.optim import build_optimizer
from diptych.training.assemble import parameter_groups, parts_of
from diptych.training.average import Average
from diptych.training.checkpoint import snapshot
from diptych.training.loop import Meter, train
from diptych.training.signals import Signals
from diptych.training.state import TrainingState, exported
from tests.distributed.harness import run_processes
from tests.objectives.small import small_config
from tests.objectives.test_teacher import CONFIG, levels

PAIRS, STEPS = 8, 3
MODES = [ShardConfig(), ShardConfig(mode="zero2"), ShardConfig(mode="zero3")]


def mim_of(device):
    """With masks of different sizes, so that processes and micro-batches count unequally."""
    teacher, model = (build(small_config(), device, torch.float64) for _ in range(2))
    return build_objective(MimObjectiveConfig(teachers=("one",)), model.train(), [teacher]).double()


def objective_of(device):
    models = [build(small_config(), device, torch.float64) for _ in range(3)]
    return build_objective(CONFIG, models[0], models[1:]).double()


def trained(peers: Peers, made, shard: ShardConfig, cut: int):
    """The loss, the weights, what a checkpoint has, and the loss of what is evaluated."""
    torch.manual_seed(0)
    elsewhere = shard.mode != "replicate" and not peers.is_main
    objective = made("meta" if elsewhere else "cpu")
    run = Run(
        optim=OptimConfig(lr=3e-3, max_norm=0.5, eps=1e-3, schedule="constant"),
        shard=shard,
        batch_size=PAIRS,
        micro_batch=PAIRS // peers.size // cut,
        steps=STEPS,
    )
    wrapped = data_parallel(objective, peers, shard, parts_of(objective, run))
    state = TrainingState(
        objective=objective,
        optimizer=build_optimizer(run.optim, parameter_groups(objective, run)),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        average=Average(objective, 0.5),
        whole=(lambda: made("cpu")) if shard.mode != "replicate" and peers.size > 1 else None,
        steps=STEPS,
    )
    share = PAIRS // peers.size
    batch = replace(levels(PAIRS), hidden=HiddenPatches.of(torch.ones(PAIRS, 16).tril() > 0))
    own = batch.rows(peers.rank * share, (peers.rank + 1) * share)
    meter = Meter(PAIRS)
    with listening() as interrupts:
        signals = Signals(peers, interrupts)
        train(state, wrapped, [own] * STEPS, peers, run, meter, [], signals)
    loss = meter.report(state, peers)()["loss"]
    weights = {name: whole(t.detach()).clone() for name, t in objective.state_dict().items()}
    written = [
        name for name in snapshot(state, peers).pieces if "kept" in name or "teacher" in name
    ]
    state.average = None
    with exported(state) as evaluated:
        measured = float(evaluated(batch, Peers()).total.detach())
    return loss, weights, written, measured


def all_trained(peers: Peers, made):
    return [trained(peers, made, shard, cut) for shard, cut in zip(MODES, (2, 1, 2), strict=True)]


@pytest.mark.parametrize("made", [objective_of, mim_of])
def test_every_mode_trains_as_one_process_does(made):
    alone = trained(Peers(), made, MODES[0], 1)
    assert not alone[2]
    for found in run_processes(2, all_trained, made):
        for loss, weights, written, measured in found:
            assert abs(loss - alone[0]) < 1e-10
            torch.testing.assert_close(weights, alone[1], rtol=0, atol=1e-12)
            assert not written
            assert abs(measured - alone[3]) < 1e-10
