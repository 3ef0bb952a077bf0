"""A step asks the device for nothing that the device doesn't have yet: counted on the CPU, where a
question costs nothing, by what would make the host wait for a GPU's queue."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diptych.config import (
    ClipObjectiveConfig,
    ModelConfig,
    OptimConfig,
    SaveConfig,
    SiglipObjectiveConfig,
    TrackConfig,
)
from diptych.data import Loader
from diptych.families.eva import EvaConfig
from diptych.training import fit, loop
from tests.training.runs import COMPOSED, MODEL, WORDY, small_run

STEPS = (1, 2)
"""Those in the middle of four: constants are made in the first, and the last one is saved."""
READS = {"tolist", "item", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__"}
"""What reads a tensor's numbers in Python."""
DATA_DEPENDENT = {
    *("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "unique", "_unique2"),
    *("unique_consecutive", "unique_dim", "repeat_interleave", "equal", "allclose"),
}
"""Operators whose result's shape, or which themselves, the host has to wait for."""
MADE = {"lift_fresh", "lift_fresh_copy", "lift"}
"""What `torch.tensor` and `new_tensor` do: a copy from the host, for which a queue is waited."""


class Watch(TorchDispatchMode):
    """Counts questions, step by step. `stale[storage]`: by which step's computations it was filled;
    what comes from the loader alone is not in it."""

    def __init__(self):
        super().__init__()
        self.step, self.off = -1, 0
        self.asked, self.waited, self.made = Counter(), [], []
        self.filled, self.weights = {}, set()

    def ask(self, name, tensors):
        if self.step < 0 or self.off:
            return
        self.asked[self.step] += 1
        if any(self.stamp(tensor) == self.step for tensor in tensors):
            self.waited.append((self.step, name))

    def stamp(self, tensor):
        place = tensor.untyped_storage().data_ptr()
        return self.step if place in self.weights else self.filled.get(place, -1)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function._schema.name.removeprefix("aten::")
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if self.step >= 0 and not self.off:
            by_mask = name in ("index", "index_put_", "index_put") and any(
                x.dtype == torch.bool for x in tree_leaves(args[1]) if x is not None
            )
            if name in DATA_DEPENDENT or by_mask:
                self.ask(name, given)
            if name in MADE:
                self.made.append((self.step, name))
        stamp = max((self.stamp(x) for x in given), default=-1)
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor):
                self.filled[x.untyped_storage().data_ptr()] = stamp
        return result


class Reads(TorchFunctionMode):
    """The same of what doesn't come to the dispatcher on a CPU."""

    def __init__(self, watch):
        self.watch = watch

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in READS:
            self.watch.ask(name, args[:1])
            self.watch.off += 1  # `item` would be counted once more below
        try:
            return function(*args, **(kwargs or {}))
        finally:
            if name in READS:
                self.watch.off -= 1


@pytest.fixture
def watched(monkeypatch):
    """What a run asks, step by step; its loader's work, which others do, aside."""

    def run(plan):
        watch, iterate, begin = Watch(), Loader.__iter__, loop.batch_statistics

        def aside(loader):
            batches = iterate(loader)
            while True:
                watch.off += 1
                batch = next(batches, None)
                watch.off -= 1
                if batch is None:
                    return
                yield batch

        def at_a_step(objective):
            watch.step += 1
            tensors = [*objective.parameters(), *objective.buffers()]
            watch.weights = {x.untyped_storage().data_ptr() for x in tensors}
            return begin(objective)

        monkeypatch.setattr(Loader, "__iter__", aside)
        monkeypatch.setattr(loop, "batch_statistics", at_a_step)
        with watch, Reads(watch):
            fit(plan, progress=False)
        return watch

    return run


EVA = replace(
    MODEL,
    image=EvaConfig(
        image_size=16, patch_size=8, width=32, layers=2, heads=2, mlp_width=64, rotary_grid=2
    ),
)
CLIP = (ClipObjectiveConfig(tile=3), MODEL)
CASES = {
    "clip": (*CLIP, 1),
    "clip, EVA": (ClipObjectiveConfig(), EVA, 1),
    "siglip": (SiglipObjectiveConfig(), replace(MODEL, logit_bias=-10.0), 1),
    "slip": (COMPOSED["slip"], MODEL, 1),
    "filip": (COMPOSED["filip"], WORDY, 1),
    "declip": (COMPOSED["declip"], WORDY, 2),
    "defilip": (COMPOSED["defilip"], WORDY, 2),
}


def plan(out, objective, model, **changes):
    save, track = SaveConfig(every_steps=0), TrackConfig(every_steps=100)
    run = small_run(out, objective=objective, model=ModelConfig(custom=model), steps=4)
    return replace(run, save=save, track=track, ema=0.9, **changes)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ("slip", "declip") else [])
        for name in CASES
    ],
)
def test_a_step_waits_for_no_number_of_its_own(tmp_path, watched, name):
    objective, model, most = CASES[name]
    found = watched(plan(tmp_path / "run", objective, model))
    assert [found.asked[step] for step in STEPS] == [most, most]
    assert [each for each in found.waited if each[0] in STEPS] == []
    assert [each for each in found.made if each[0] in STEPS] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_batch": 3},
        {"precision": "bf16"},
        {"optim": OptimConfig(name="sgd", lr=1e-3, max_norm=1.0)},
        {"optim": OptimConfig(name="lion", lr=1e-3)},
        {"optim": OptimConfig(name="lamb", lr=1e-3), "precision": "fp16"},
        *(
            pytest.param(changes, marks=pytest.mark.slow)
            for changes in (
                {"precision": "fp16"},
                {"optim": OptimConfig(name="lamb", lr=1e-3)},
                {"optim": OptimConfig(name="lamb-deepspeed", lr=1e-3)},
            )
        ),
    ],
    ids=lambda changes: " ".join(str(getattr(x, "name", x)) for x in changes.values()),
)
def test_however_it_trains(tmp_path, watched, changes):
    found = watched(plan(tmp_path / "run", *CLIP, **changes))
    assert [found.asked[step] for step in STEPS] == [1, 1]
    assert [each for each in found.waited + found.made if each[0] in STEPS] == []


def test_a_report_is_read_a_step_later(tmp_path, watched):
    run = replace(plan(tmp_path / "run", *CLIP), track=TrackConfig(every_steps=1))
    found = watched(run)
    assert [each for each in found.waited + found.made if each[0] in STEPS] == []


def test_the_watch_sees_a_question(tmp_path, watched, monkeypatch):
    """Of the kinds that there are."""
    real = loop.accumulate

    def asking(*args):
        losses = real(*args)
        float(losses.total)
        assert losses.total != torch.tensor(7.0)
        losses.total.tolist()
        return losses

    monkeypatch.setattr(loop, "accumulate", asking)
    found = watched(plan(tmp_path / "run", *CLIP))
    assert found.asked[1] == 4
    assert {name for _, name in found.waited} >= {"item", "tolist"} or len(found.waited) >= 9
    assert found.made
