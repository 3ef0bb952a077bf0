"""The loop takes the steps that DeCLIP's own trainer took: losses, rates, scales, and the weights
behind them."""

import math
import re
from dataclasses import replace

import pytest
import torch

from diptych.config import DataConfig, ModelConfig, OptimConfig, Run, TowerOptions
from diptych.distributed import Peers
from diptych.interrupts import listening
from diptych.objectives import DeclipObjective
from diptych.optim import learning_rate
from diptych.training.assemble import assemble
from diptych.training.loop import Meter, train
from diptych.training.signals import Signals
from tests import goldens
from tests.objectives import recorded

STEPS = goldens.files("declip/train3_*.json")
TERMS = {"simclr_losses": "views", "text_mlm_losses": "words", "clip_nn_text_losses": "neighbours"}
TERMS |= {
    "clip_losses": "pairs",
    "clip_dense_losses": "tokens",
    "filip_losses": "tokens",
    "simsiam_losses": "views",
}
every = pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)


def optim_config(kwargs, **more):
    return OptimConfig(
        lr=kwargs["warmup_lr"],
        start_lr=kwargs["base_lr"],
        final_lr=kwargs["min_lr"],
        warmup=kwargs["warmup_steps"],
        decayed="tables",
        **more,
    )


def start(path):
    """What was recorded of the steps and of the model; the state of a run before the first step."""
    steps, record = goldens.read(path), goldens.read(goldens.beside(path, "train3_", ""))
    chosen, schedule = steps["optimizer"], steps["lr_schedule"]
    more = {
        "eps": chosen["eps"],
        "betas": tuple(chosen["betas"]),
        "weight_decay": chosen["weight_decay"],
    }
    run = Run(
        model=ModelConfig(
            custom=recorded.model_config(record["config"]), image=TowerOptions(freeze_patches=True)
        ),
        objective=recorded.objective_config(record["config"]),
        data=DataConfig(path="none"),
        optim=optim_config(schedule, **more),
        batch_size=len(record.get("masked_token_ids", record.get("token_ids"))),
        steps=schedule["max_iter"],
    )
    state, wrapped, _ = assemble(run, Peers())
    state.objective.load_state_dict(
        recorded.state(record["state_dict"], state.objective), strict=False
    )
    if isinstance(state.objective, DeclipObjective):
        seed = goldens.seed_in(steps["bank_recipe"])
        state.objective.queue.rows.copy_(recorded.bank(*state.objective.queue.rows.shape, seed))
    return steps, record, run, state, wrapped


def batches(steps, record):
    """One for each recorded step."""
    torch.manual_seed(int(re.findall(r"manual_seed\((\d+)\)", steps["note"])[0]))
    for seed, ids in enumerate(steps["masked_ids_per_step"] or [[]] * len(steps["log"]["loss"])):
        batch = recorded.batch(record, seed=seed)
        if "masked_token_ids" in record:
            masked, labels = recorded.masked_captions(record)
            assert masked.tolist() == ids
            batch = replace(batch, texts=(masked, *batch.texts[1:]), mlm_labels=labels)
        yield batch


@every
def test_steps_as_recorded(path):
    steps, record, run, state, wrapped = start(path)
    rows = []
    meter = Meter(run.batch_size)
    listed = list(batches(steps, record))
    report = [lambda state: rows.append(meter.report(state, Peers())())]
    state.steps = run.steps
    with listening() as interrupts:
        signals = Signals(Peers(), interrupts)
        train(state, wrapped, listed, Peers(), run, meter, report, signals)
    log, tolerance = (
        steps["log"],
        1e-4 if "slip" in path.stem else 2e-5,
    )  # SLIP's norms over four rows amplify rounding
    assert [row["lr"] for row in rows] == pytest.approx(log["lr"], rel=1e-12)
    assert [row["loss"] for row in rows] == pytest.approx(log["loss"], abs=tolerance)
    for theirs, ours in TERMS.items():
        if any(log.get(theirs, ())) and ours in rows[0]:
            assert [row[ours] for row in rows] == pytest.approx(log[theirs], abs=1e-4), theirs
    scales = [math.log(row["scale"]) for row in rows] + [state.objective.model.logit_scale.item()]
    assert scales == pytest.approx(log["logit_scale"], abs=1e-6)
    if "bank_ptr_after" in steps:
        assert int(state.objective.queue.place) == steps["bank_ptr_after"]
    check_weights(steps, record, state.objective)


def check_weights(steps, record, objective):
    state = {name: t for name, t in objective.state_dict().items() if not name.startswith("queue.")}
    found = recorded.names(record["state_dict"]).to_foreign(state)
    compared = 0
    for name, norm in steps["param_l2_after"].items():
        if name in found:
            assert found[name].norm().item() == pytest.approx(norm, rel=1e-3), name
            compared += 1
    assert compared > len(steps["param_l2_after"]) - 5  # some never move: no gradient reaches them
    for name, values in steps["sample_params_after"].items():
        if not name.endswith(
            "in_proj_bias"
        ):  # of the keys' there is nothing but rounding, which Adam makes steps of
            torch.testing.assert_close(
                found[name].flatten()[: len(values)], torch.tensor(values), rtol=0, atol=2e-5
            )


@every
def test_groups_as_recorded(path):
    """What decays, and what doesn't: name by name."""
    steps, record, _, state, _ = start(path)
    table, names = (
        recorded.names(record["state_dict"]),
        {p: n for n, p in state.objective.named_parameters()},
    )
    found = {}
    for group in state.optimizer.param_groups:
        for parameter in group["params"]:
            for name in table.to_foreign({names[parameter]: parameter}):
                found[name] = group["weight_decay"]
    expected = {
        name: group["weight_decay"] for group in steps["param_groups"] for name in group["names"]
    }
    frozen = {"visual.conv1.weight"}
    assert {name: expected[name] for name in found} == found
    unused = {name.split(".")[0] for name in expected.keys() - found.keys() - frozen}
    assert unused <= {"predictor_sim", "text_label_predictor"}


@pytest.mark.parametrize("path", goldens.files("declip/misc*.json"), ids=lambda path: path.stem)
def test_rates_as_recorded(path):
    for name, schedule in goldens.read(path)["lr_schedules"].items():
        kwargs = schedule["kwargs"]
        for iteration, rate in schedule["lr_at"]:  # counted from 1
            found = learning_rate(optim_config(kwargs), iteration - 1, kwargs["max_iter"])
            assert found == pytest.approx(rate, rel=1e-9, abs=1e-16), (name, iteration)
