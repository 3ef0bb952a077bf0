"""An objective in somebody's one file works as ours do."""

import importlib
import sys
from dataclasses import dataclass, replace

import pytest
import torch

from diptych.config import (
    ClipObjectiveConfig,
    ObjectiveConfig,
    Run,
    SelfSupervisionConfig,
    SlipObjectiveConfig,
)
from diptych.config.serialize import from_json, to_json
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.models import build
from diptych.objectives import build_objective
from diptych.objectives.heads import SelfSupervision
from diptych.training import fit, read_metrics
from tests.objectives.small import batch_of, small_config
from tests.training.runs import assert_same_bits, small_run

SOURCE = '''
"""CyCLIP (Goel et al. 2022, arXiv:2205.14459), within modalities, on one process."""

from dataclasses import dataclass

from diptych.config import ClipObjectiveConfig, ContrastiveConfig, ObjectiveConfig
from diptych.objectives import Losses, Objective
from diptych.objectives.contrastive import build_contrastive


@dataclass(frozen=True, kw_only=True)
class CycClipConfig(ObjectiveConfig):
    implementation = "cyc_clip:CycClip"

    pairs: ContrastiveConfig = ClipObjectiveConfig()
    weight: float = 0.25


class CycClip(Objective):
    def __init__(self, config, model):
        super().__init__(model)
        self.weight = config.weight
        self.contrastive = build_contrastive(config.pairs, model)
        self.steps = 0

    def loss(self, features, peers):
        images, texts = features["image"], features["text"]
        pairs = self.contrastive.loss(images, texts, peers)
        cyclic = (images @ images.T - texts @ texts.T).square().mean()
        total = pairs + self.weight * cyclic
        metrics = {"loss": total.detach(), "cyclic": cyclic.detach()}
        return Losses(total, metrics, {"cyclic": cyclic.detach()})

    def after_step(self, carry):
        assert set(carry) == {"cyclic"}
        self.contrastive.after_step()
        self.steps += 1
'''


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """The module of somebody's file."""
    (tmp_path / "cyc_clip.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("cyc_clip")
    del sys.modules["cyc_clip"]


def test_it_is_built(theirs):
    objective = build_objective(theirs.CycClipConfig(weight=0.5), build(small_config()))
    assert isinstance(objective, theirs.CycClip)
    losses = objective(batch_of(4), Peers())
    losses.total.backward()
    assert losses.metrics["cyclic"] > 0
    assert "model.logit_scale" in objective.state_dict()


def test_it_trains_is_saved_and_resumes(theirs, tmp_path):
    objective = theirs.CycClipConfig(pairs=ClipObjectiveConfig(tile=3), weight=0.5)
    run = small_run(tmp_path / "whole", objective=objective, steps=6, micro_batch=4)
    assert from_json(Run, to_json(run)) == run
    whole = fit(run, progress=False)
    assert all(row["cyclic"] > 0 for row in read_metrics(tmp_path / "whole" / "metrics.jsonl"))
    part = replace(run, out=str(tmp_path / "part"))
    first = fit(part, progress=False)
    for file in first.iterdir():
        file.unlink()
    first.rmdir()
    saved = from_json(Run, (tmp_path / "part" / "run.json").read_text())
    assert saved == part
    assert_same_bits(whole, fit(saved, resume=True, progress=False))


def test_a_subclass_that_names_no_implementation_is_an_error():
    with pytest.raises(ConfigError, match=r"names no implementation of its own.*Clip"):

        class Silent(ClipObjectiveConfig):
            pass


def test_a_contrast_that_names_no_part_is_an_error():
    with pytest.raises(ConfigError, match="Half names no contrastive part of its own"):

        class Half(ClipObjectiveConfig):
            implementation = "diptych.objectives.contrastive:ContrastiveObjective"


def test_what_is_no_objective_is_an_error():
    @dataclass(frozen=True, kw_only=True)
    class CounterConfig(ObjectiveConfig):
        implementation = "tests.objectives.test_open:pair"

    with pytest.raises(ConfigError, match=r"test_open:pair, which CounterConfig names, makes no"):
        build_objective(CounterConfig(), build(small_config()))


def pair(*arguments):
    return arguments


class Distance(SelfSupervision):
    """The mean distance of two views."""

    def __init__(self, config, width):
        super().__init__()
        self.power = config.power

    def forward(self, first, second, peers):
        return (first - second).abs().pow(self.power).mean()


def test_self_supervision_of_ones_own():
    @dataclass(frozen=True, kw_only=True)
    class DistanceConfig(SelfSupervisionConfig):
        implementation = "tests.objectives.test_open:Distance"
        power: float = 2.0

    config = SlipObjectiveConfig(views=DistanceConfig())
    objective = build_objective(config, build(small_config()))
    batch = replace(batch_of(4), images=(torch.ones(4, 3, 16, 16),) * 3)
    assert objective(batch, Peers()).metrics["views"] == 0
