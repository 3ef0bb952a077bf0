"""What optimisers of other people keep: a run with one goes on exactly, or ends at its first step
in one sentence."""

import re
from dataclasses import replace

import pytest
import torch

from diptych.config import OptimConfig, SaveConfig
from diptych.errors import TrainingError
from diptych.training import fit
from tests.training.runs import assert_same_bits, small_run


class Counting(torch.optim.Optimizer):
    """Plain steps that grow shorter; it counts in Python, as many do."""

    def __init__(self, groups, config):
        super().__init__(groups, {"lr": config.lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in (each for each in group["params"] if each.grad is not None):
                own = self.state[parameter]
                if not own:
                    own |= {"step": 0, "share": 1.0, "past": False, "nothing": None}
                    own["largest"] = torch.zeros(())
                assert [type(own[name]) for name in ("step", "share", "past")] == [int, float, bool]
                assert own["nothing"] is None
                own["step"] += 1
                own["share"] /= own["step"] + 0.1
                own["past"] = own["step"] > 1
                own["largest"] = torch.maximum(own["largest"], parameter.grad.abs().max())
                parameter.sub_(parameter.grad, alpha=group["lr"] * own["share"])


class Listing(Counting):
    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        for own in self.state.values():
            own["history"] = [own["largest"]]


class Complex(Counting):
    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        for own in self.state.values():
            own["turns"] = torch.ones(1, dtype=torch.complex64)


class Estimating(Counting):
    """It estimates how far to go for each group, as Prodigy does, and adds numbers to groups."""

    def __init__(self, groups, config):
        super().__init__(groups, config)
        for group in self.param_groups:
            group |= {"d": 1e-2, "first": True}

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            assert group["first"] == ("k" not in group)
            group |= {"first": False, "d": group["d"] * 1.3, "k": group.get("k", 0) + 1}
            for parameter in (each for each in group["params"] if each.grad is not None):
                parameter.sub_(parameter.grad, alpha=group["lr"] * group["d"] / group["k"])


def factored(groups, config):
    """Its moments are those of rows and of columns."""
    return torch.optim.Adafactor(groups, lr=config.lr)


@pytest.mark.parametrize("kind", ["Counting", "Estimating", "factored"])
def test_what_an_optimiser_keeps_comes_back(tmp_path, kind):
    optim = OptimConfig(name=f"tests.training.test_moments:{kind}", lr=1e-3)
    whole = fit(small_run(tmp_path / "whole", optim=optim, steps=4), progress=False)
    run = small_run(tmp_path / "part", optim=optim, steps=4)
    fit(replace(run, steps=2, optim=replace(optim, part=(0.0, 0.5))), progress=False)
    assert_same_bits(fit(run, resume=True, progress=False), whole)


def test_numbers_of_groups_that_are_others_now_start_anew(tmp_path, capsys):
    optim = OptimConfig(name="tests.training.test_moments:Estimating", lr=1e-3)
    run = small_run(tmp_path, optim=optim, steps=2, save=SaveConfig(every_steps=2))
    fit(run, progress=False)
    layers = replace(run.model.image, layer_decay=0.5)
    fit(replace(run, model=replace(run.model, image=layers), steps=4), resume=True)
    said = r"holds what the optimiser kept of (\d+) groups of parameters, and there are (\d+): it"
    before, now = re.findall(said, capsys.readouterr().err)[0]
    assert int(before) < int(now)


@pytest.mark.parametrize("kind", ["Listing", "Complex"])
def test_what_no_checkpoint_holds_is_said_after_one_step(tmp_path, kind):
    optim = OptimConfig(name=f"tests.training.test_moments:{kind}", lr=1e-3)
    said = {
        "Listing": "the optimiser keeps a list as history of ",
        "Complex": r"optimizer/.*/turns can't be written: it is of torch.complex64",
    }
    with pytest.raises(TrainingError, match=f"no checkpoint of this run .*{said[kind]}") as caught:
        fit(small_run(tmp_path / "run", optim=optim, steps=4), progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "checkpoints").exists()
